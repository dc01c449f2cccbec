// What both clients' stories share: where the service is, who is on the photos, and a way to tell the story step by step.
//
// The Go test passes everything by environment: FACE_ENDPOINT, FACE_KEY, and FACE_CAST, a JSON object
//
//	people:   [{ name, photos: [photo, …], probe: photo }]   at least two people, enrolled from photos, recognised on probe
//	stranger: photo                                          somebody who is not enrolled
//	crowd:    photo                                          a picture with several faces
//
// where photo is { file, url, face }: the picture's path, an address the service can fetch it from, and which face is meant
// (0 is the largest, the order in which Detect answers).
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

const need = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: this script is run by the Go test beside it`);
  return value;
};

export const endpoint = need('FACE_ENDPOINT');
export const key = need('FACE_KEY');
export const cast = JSON.parse(need('FACE_CAST'));

export const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
export const unknownId = '00000000-0000-4000-8000-000000000000';

export const bytes = (photo) => readFileSync(photo.file);

// asTarget turns Detect's rectangle into the targetFace parameter, whose order is another: left, top, width, height.
export const asTarget = ({ left, top, width, height }) => [left, top, width, height];

// tell runs one named step and says so; the name of the failing one is the first thing to know.
export async function tell(name, fn) {
  const start = performance.now();
  try {
    const result = await fn();
    console.log(`ok   ${name} (${Math.round(performance.now() - start)} ms)`);
    return result;
  } catch (err) {
    console.error(`FAIL ${name}`);
    throw err;
  }
}

export { assert };
