// The legacy client, @azure/cognitiveservices-face 5, as applications of its time use it: version 1.0 of the contract.
import { createReadStream } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout } from 'node:timers/promises';
import { asTarget, assert, cast, endpoint, key, tell, unknownId, uuid } from './cast.mjs';

const require = createRequire(import.meta.url);
const { FaceClient } = require('@azure/cognitiveservices-face');
const { CognitiveServicesCredentials } = require('@azure/ms-rest-azure-js');
const msRest = require('@azure/ms-rest-js');

const credentials = (k) => new msRest.ApiKeyCredentials({ inHeader: { 'Ocp-Apim-Subscription-Key': k } });

// This client gives up on a 429: it decodes the answer into an error before its own policy for throttling can see it. So the story keeps to the
// tier's ten requests a second, by the extension point that the client has for such things.
const paced = {
  requestPolicyFactories: (defaults) => [...defaults, {
    create: (next) => ({
      sendRequest: async (request) => {
        await (paced.turn = (paced.turn ?? Promise.resolve()).then(() => setTimeout(110)));
        return next.sendRequest(request);
      },
    }),
  }],
};

// Both ways of handing over a key are in use; the first client takes the Cognitive Services one, the stranger the general one.
const client = new FaceClient(new CognitiveServicesCredentials(key), endpoint, paced);

const stream = (photo) => () => createReadStream(photo.file);

// refused insists on the error that the client throws, decoded by the client.
const refused = (promise, statusCode, code) => assert.rejects(promise, (err) => {
  assert.equal(err.statusCode, statusCode, err.stack);
  assert.equal(err.code, code);
  assert.equal(err.body.error.code, code);
  assert.ok(err.message.length > 0, 'a sentence for a person');
  return true;
});

// ended asks for the training state until it is final; this client leaves that to its caller.
const ended = async (ask) => {
  for (;;) {
    const status = await ask();
    if (status.status === 'succeeded') {
      assert.ok(status.created instanceof Date && !Number.isNaN(status.created.getTime()));
      return;
    }
    assert.notEqual(status.status, 'failed', status.message);
  }
};

const probes = new Map();
const boxes = new Map();

await tell('detect: bytes', async () => {
  for (const person of cast.people) {
    for (const photo of [...person.photos, person.probe]) {
      const faces = await client.face.detectWithStream(stream(photo));
      const face = faces[photo.face];
      assert.match(face.faceId, uuid);
      boxes.set(photo.file + photo.face, face.faceRectangle);
      if (photo === person.probe) probes.set(person.name, face.faceId);
    }
  }
});

await tell('detect: address, landmarks, attributes', async () => {
  const [person] = cast.people;
  const faces = await client.face.detectWithUrl(person.probe.url, {
    returnFaceId: true, returnFaceLandmarks: true, returnFaceAttributes: ['headPose', 'blur', 'exposure', 'noise'], returnRecognitionModel: true,
  });
  const face = faces[person.probe.face];
  assert.equal(face.recognitionModel, 'recognition_01', 'what an unconfigured client gets');
  assert.equal(Object.keys(face.faceLandmarks).length, 27);
  assert.equal(typeof face.faceAttributes.headPose.yaw, 'number');
  assert.ok(['low', 'medium', 'high'].includes(face.faceAttributes.blur.blurLevel.toLowerCase()));
  assert.ok(['low', 'medium', 'high'].includes(face.faceAttributes.noise.noiseLevel.toLowerCase()));
});

async function groupStory(groups, persons, idField, id, prefix) {
  const ids = new Map();

  await tell(`${idField}: create, persons, faces`, async () => {
    await groups.create(id, 'the workshop', { userData: 'yard' });
    const read = await groups.get(id, { returnRecognitionModel: true });
    assert.deepEqual([read[idField], read.name, read.userData, read.recognitionModel], [id, 'the workshop', 'yard', 'recognition_01']);
    await groups.update(id, { name: 'the new workshop' });
    for (const person of cast.people) {
      const { personId } = await persons.create(id, { name: person.name, userData: `about ${person.name}` });
      ids.set(person.name, personId);
      const faces = [];
      for (const [i, photo] of person.photos.entries()) {
        const options = { targetFace: asTarget(boxes.get(photo.file + photo.face)), userData: `photo ${i}` };
        const added = i % 2 === 0
          ? await persons.addFaceFromStream(id, personId, stream(photo), options)
          : await persons.addFaceFromUrl(id, personId, photo.url, options);
        faces.push(added.persistedFaceId);
      }
      const back = await persons.get(id, personId);
      assert.equal(back.name, person.name);
      assert.deepEqual([...back.persistedFaceIds].sort(), [...faces].sort());
      await persons.updateFace(id, personId, faces[0], { userData: 'retouched' });
      assert.equal((await persons.getFace(id, personId, faces[0])).userData, 'retouched');
    }
  });

  await tell(`${idField}: train and wait`, async () => {
    await refused(groups.getTrainingStatus(id), 404, `${prefix}NotTrained`);
    await groups.train(id);
    await ended(() => groups.getTrainingStatus(id));
  });

  await tell(`${idField}: identify and verify`, async () => {
    const faceIds = [...probes.values()];
    const answers = await client.face.identify(faceIds, { [idField]: id });
    assert.deepEqual(answers.map((a) => a.faceId), faceIds);
    for (const [i, name] of [...probes.keys()].entries()) {
      assert.equal(answers[i].candidates.length, 1, 'one candidate unless more are asked for');
      assert.equal(answers[i].candidates[0].personId, ids.get(name));
    }
    const [one, two] = cast.people;
    assert.equal((await client.face.verifyFaceToPerson(probes.get(one.name), ids.get(one.name), { [idField]: id })).isIdentical, true);
    assert.equal((await client.face.verifyFaceToPerson(probes.get(one.name), ids.get(two.name), { [idField]: id })).isIdentical, false);
  });

  await tell(`${idField}: pages`, async () => {
    const all = (await persons.list(id)).map((p) => p.personId);
    const first = (await persons.list(id, { top: 1 })).map((p) => p.personId);
    const rest = (await persons.list(id, { start: first[0], top: 1000 })).map((p) => p.personId);
    assert.deepEqual([...first, ...rest], all);
    assert.equal(all.length, cast.people.length);
    assert.ok((await groups.list({ top: 1000 })).some((g) => g[idField] === id));
  });

  await tell(`${idField}: refused and deleted`, async () => {
    await refused(groups.create(id, 'again'), 409, `${prefix}Exists`);
    await refused(groups.get('nobody-made-it'), 404, `${prefix}NotFound`);
    await refused(persons.get(id, unknownId), 404, 'PersonNotFound');
    await persons.deleteMethod(id, ids.get(cast.people[0].name));
    await refused(persons.get(id, ids.get(cast.people[0].name)), 404, 'PersonNotFound');
    await groups.deleteMethod(id);
    await refused(groups.get(id), 404, `${prefix}NotFound`);
  });
}

await groupStory(client.personGroup, client.personGroupPerson, 'personGroupId', 'workshop-old', 'PersonGroup');
await groupStory(client.largePersonGroup, client.largePersonGroupPerson, 'largePersonGroupId', 'factory-old', 'LargePersonGroup');

await tell('verify, find similar, group on face ids', async () => {
  const [one, two] = cast.people;
  const faces = new Map(); // faceId -> name
  for (const person of cast.people) {
    for (const photo of person.photos) faces.set((await client.face.detectWithStream(stream(photo)))[photo.face].faceId, person.name);
  }
  const [own] = [...faces].find(([, name]) => name === one.name);
  assert.equal((await client.face.verifyFaceToFace(probes.get(one.name), own)).isIdentical, true);
  assert.equal((await client.face.verifyFaceToFace(probes.get(one.name), probes.get(two.name))).isIdentical, false);
  const found = await client.face.findSimilar(probes.get(one.name), { faceIds: [...faces.keys()] });
  assert.ok(found.length > 0 && found.every((s) => faces.get(s.faceId) === one.name), JSON.stringify(found));
  const grouped = await client.face.group([...faces.keys()]);
  assert.deepEqual([...grouped.groups.flat(), ...grouped.messyGroup].sort(), [...faces.keys()].sort());
  await refused(client.face.verifyFaceToFace(unknownId, own), 404, 'FaceNotFound');
});

async function listStory(lists, idField, id, prefix) {
  await tell(`${idField}: fill, train, find similar, delete`, async () => {
    await lists.create(id, 'badges', { userData: 'west' });
    const owner = new Map();
    for (const person of cast.people) {
      for (const photo of person.photos) {
        const added = await lists.addFaceFromStream(id, stream(photo), { targetFace: asTarget(boxes.get(photo.file + photo.face)), userData: person.name });
        owner.set(added.persistedFaceId, person.name);
      }
    }
    if (lists.train) {
      await refused(client.face.findSimilar([...probes.values()][0], { [idField]: id }), 400, `${prefix}NotTrained`);
      await lists.train(id);
      await ended(() => lists.getTrainingStatus(id));
      assert.deepEqual((await lists.listFaces(id)).map((f) => f.persistedFaceId).sort(), [...owner.keys()].sort());
    } else {
      assert.deepEqual((await lists.get(id)).persistedFaces.map((f) => f.persistedFaceId).sort(), [...owner.keys()].sort());
    }
    for (const [name, faceId] of probes) {
      const found = await client.face.findSimilar(faceId, { [idField]: id });
      assert.ok(found.length > 0 && found.every((s) => owner.get(s.persistedFaceId) === name), `${name}: ${JSON.stringify(found)}`);
    }
    await lists.deleteFace(id, [...owner.keys()][0]);
    await lists.deleteMethod(id);
    await refused(lists.get(id), 404, `${prefix}NotFound`);
  });
}

await listStory(client.faceList, 'faceListId', 'badges-old', 'FaceList');
await listStory(client.largeFaceList, 'largeFaceListId', 'archive-old', 'LargeFaceList');

await tell('errors, as the client decodes them', async () => {
  const stranger = new FaceClient(credentials('0'.repeat(32)), endpoint);
  await refused(stranger.faceList.list(), 401, '401');
  await refused(client.face.detectWithStream(Buffer.alloc(2048, 7)), 400, 'InvalidImage');
  await refused(client.face.detectWithUrl('ftp://example.org/a.jpg'), 400, 'InvalidURL');
  await refused(client.face.detectWithUrl(cast.crowd.url, { returnFaceAttributes: ['emotion', 'gender'] }), 403, 'InvalidRequest');
  await refused(client.face.identify([...probes.values()].slice(0, 1), { personGroupId: 'nobody-made-it' }), 400, 'PersonGroupNotFound');
});
