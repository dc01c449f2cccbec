// The baseline of the vision benchmark: the npm package on its WebAssembly backend, with the weights that Visage ships, finds the faces of
// one picture, their landmarks and their descriptors.
//
//	node time.mjs <raw RGB file> <width> <height>
//
// It prints one line of JSON when it is warm, then one for every line it reads: {"ms": …, "faces": …, "descriptor": …}. The picture comes as
// raw pixels, so that decoding is never in the baseline's time. It ends with its input.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';

const require = createRequire(import.meta.url);
const tf = require('@tensorflow/tfjs');
const wasm = require('@tensorflow/tfjs-backend-wasm');
const packageDir = path.dirname(require.resolve('@vladmandic/face-api/package.json'));
const faceapi = require(path.join(packageDir, 'dist', 'face-api.node-wasm.js'));

const file = process.argv[2];
const [width, height] = process.argv.slice(3).map(Number);
const pixels = new Uint8Array(readFileSync(file));
if (pixels.length !== width * height * 3) throw new Error(`${file}: ${pixels.length} bytes, want ${width * height * 3}`);

wasm.setWasmPaths(path.dirname(require.resolve('@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm')) + path.sep);
await tf.setBackend('wasm');
await tf.ready();
const models = path.join(packageDir, 'model');
await faceapi.nets.ssdMobilenetv1.loadFromDisk(models);
await faceapi.nets.faceLandmark68Net.loadFromDisk(models);
await faceapi.nets.faceRecognitionNet.loadFromDisk(models);

const options = new faceapi.SsdMobilenetv1Options({ minConfidence: 0.5, maxResults: 100 });
const picture = tf.tensor3d(pixels, [height, width, 3], 'int32');
const round = async () => {
  const start = performance.now();
  const faces = await faceapi.detectAllFaces(picture, options).withFaceLandmarks().withFaceDescriptors();
  return { ms: performance.now() - start, faces: faces.length, descriptor: faces[0]?.descriptor.length ?? 0, backend: tf.getBackend() };
};

for (let i = 0; i < 3; i++) await round(); // the first rounds build kernels and fill caches
console.log(JSON.stringify(await round()));
for await (const line of createInterface({ input: process.stdin })) {
  if (line === '') break;
  console.log(JSON.stringify(await round()));
}
