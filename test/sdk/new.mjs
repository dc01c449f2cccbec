// The current client, @azure-rest/ai-vision-face, as an application would use it: version 1.2 of the contract.
import { createReadStream } from 'node:fs';
import createFaceClient, { getLongRunningPoller, isUnexpected } from '@azure-rest/ai-vision-face';
import { AzureKeyCredential } from '@azure/core-auth';
import { asTarget, assert, bytes, cast, endpoint, key, tell, unknownId, uuid } from './cast.mjs';

const client = createFaceClient(endpoint, new AzureKeyCredential(key));
const model = 'recognition_04';

// good insists on what the client itself counts as success.
const good = async (request) => {
  const response = await request;
  assert.ok(!isUnexpected(response), `${response.request.method} ${response.request.url}: ${response.status} ${JSON.stringify(response.body)}`);
  return response;
};

// refused insists on a status and on the error as the client decodes it.
const refused = async (request, status, code) => {
  const response = await request;
  assert.ok(isUnexpected(response), 'the client must see a failure');
  assert.equal(response.status, String(status), JSON.stringify(response.body));
  assert.equal(response.body.error.code, code);
  assert.ok(response.body.error.message.length > 0, 'a sentence for a person');
  assert.equal(response.headers['x-ms-error-code'], code);
};

// empty insists on a success with no body, which is what creates, changes and deletes answer.
const empty = async (request) => {
  const response = await good(request);
  assert.ok(response.body === undefined || response.body === '' || response.body === null, `a body: ${JSON.stringify(response.body)}`);
};

const detectBytes = async (photo, queryParameters = {}) =>
  (await good(client.path('/detect').post({
    contentType: 'application/octet-stream', body: bytes(photo), queryParameters: { recognitionModel: model, returnFaceId: true, ...queryParameters },
  }))).body;

const detectUrl = async (photo, queryParameters = {}) =>
  (await good(client.path('/detect').post({ contentType: 'application/json', body: { url: photo.url }, queryParameters }))).body;

const trained = async (start) => {
  const response = await good(start);
  assert.equal(response.status, '202');
  assert.match(response.headers['operation-location'], /^https:\/\/[^/]+\/face\/v1\.2\/.+\/training$/);
  const poller = await getLongRunningPoller(client, response, { intervalInMs: 50 });
  await poller.pollUntilDone();
  assert.equal(poller.getOperationState().status, 'succeeded');
};

const probes = new Map(); // name -> faceId on the probe photo
const boxes = new Map(); // photo file -> rectangle of the face that is meant

await tell('detect: bytes', async () => {
  for (const person of cast.people) {
    for (const photo of [...person.photos, person.probe]) {
      const faces = await detectBytes(photo);
      assert.ok(faces.length > photo.face, `${photo.file}: ${faces.length} faces`);
      const areas = faces.map((f) => f.faceRectangle.width * f.faceRectangle.height);
      assert.deepEqual(areas, [...areas].sort((a, b) => b - a), 'largest first');
      const face = faces[photo.face];
      assert.match(face.faceId, uuid);
      assert.equal(face.recognitionModel, undefined);
      assert.equal(face.faceLandmarks, undefined);
      boxes.set(photo.file + photo.face, face.faceRectangle);
      if (photo === person.probe) probes.set(person.name, face.faceId);
    }
  }
});

await tell('detect: a stream without a length', async () => {
  const faces = (await good(client.path('/detect').post({
    contentType: 'application/octet-stream', body: createReadStream(cast.crowd.file), queryParameters: { returnFaceId: false },
  }))).body;
  assert.ok(faces.length >= 2, `${faces.length} faces in the crowd`);
  assert.equal(faces[0].faceId, undefined);
});

await tell('detect: address, landmarks, attributes', async () => {
  const [person] = cast.people;
  const faces = await detectUrl(person.probe, {
    recognitionModel: model, detectionModel: 'detection_03', returnRecognitionModel: true, returnFaceLandmarks: true,
    returnFaceAttributes: ['headPose', 'blur', 'exposure', 'qualityForRecognition'], faceIdTimeToLive: 120,
  });
  const face = faces[person.probe.face];
  assert.equal(face.recognitionModel, model);
  assert.equal(Object.keys(face.faceLandmarks).length, 27);
  assert.ok(face.faceLandmarks.pupilLeft.x <= face.faceLandmarks.pupilRight.x, 'left is left in the picture');
  for (const angle of ['pitch', 'roll', 'yaw']) assert.equal(typeof face.faceAttributes.headPose[angle], 'number');
  assert.ok(['low', 'medium', 'high'].includes(face.faceAttributes.blur.blurLevel));
  assert.ok(['underExposure', 'goodExposure', 'overExposure'].includes(face.faceAttributes.exposure.exposureLevel));
  assert.ok(['low', 'medium', 'high'].includes(face.faceAttributes.qualityForRecognition));
});

await tell('detect: nothing but an address', async () => {
  const faces = await detectUrl(cast.crowd);
  assert.ok(faces.length >= 2);
  assert.match(faces[0].faceId, uuid);
});

// The person-group family comes in two sizes that differ in names alone, so one story serves both.
async function groupStory(family, idField, id) {
  const group = `/${family}/{${idField}}`;
  const persons = new Map(); // name -> personId
  const faceOf = new Map(); // name -> persistedFaceIds

  await tell(`${family}: create and read`, async () => {
    await empty(client.path(group, id).put({ body: { name: 'the office', userData: 'third floor', recognitionModel: model } }));
    const read = (await good(client.path(group, id).get({ queryParameters: { returnRecognitionModel: true } }))).body;
    assert.deepEqual({ id: read[idField], name: read.name, userData: read.userData, model: read.recognitionModel },
      { id, name: 'the office', userData: 'third floor', model });
    await empty(client.path(group, id).patch({ body: { name: 'the other office' } }));
    const changed = (await good(client.path(group, id).get())).body;
    assert.equal(changed.name, 'the other office');
    assert.equal(changed.userData, 'third floor');
    assert.equal(changed.recognitionModel, undefined);
  });

  await tell(`${family}: persons and faces`, async () => {
    for (const person of cast.people) {
      const created = (await good(client.path(`${group}/persons`, id).post({ body: { name: person.name, userData: `about ${person.name}` } }))).body;
      assert.match(created.personId, uuid);
      persons.set(person.name, created.personId);
      const faces = [];
      for (const [i, photo] of person.photos.entries()) {
        const path = client.path(`${group}/persons/{personId}/persistedfaces`, id, created.personId);
        const queryParameters = { targetFace: asTarget(boxes.get(photo.file + photo.face)), userData: `photo ${i}`, detectionModel: 'detection_03' };
        const added = i % 2 === 0
          ? await good(path.post({ contentType: 'application/octet-stream', body: bytes(photo), queryParameters }))
          : await good(path.post({ contentType: 'application/json', body: { url: photo.url }, queryParameters }));
        assert.match(added.body.persistedFaceId, uuid);
        faces.push(added.body.persistedFaceId);
      }
      faceOf.set(person.name, faces);
      const read = (await good(client.path(`${group}/persons/{personId}`, id, created.personId).get())).body;
      assert.equal(read.name, person.name);
      assert.equal(read.userData, `about ${person.name}`);
      assert.deepEqual([...read.persistedFaceIds].sort(), [...faces].sort());
      const face = client.path(`${group}/persons/{personId}/persistedfaces/{persistedFaceId}`, id, created.personId, faces[0]);
      await empty(face.patch({ body: { userData: 'retouched' } }));
      assert.equal((await good(face.get())).body.userData, 'retouched');
    }
  });

  await tell(`${family}: identify before training`, () => refused(
    client.path('/identify').post({ body: { faceIds: [...probes.values()].slice(0, 1), [idField]: id } }), 400,
    family === 'persongroups' ? 'PersonGroupNotTrained' : 'LargePersonGroupNotTrained'));

  await tell(`${family}: train, by the client's own poller`, async () => {
    await trained(client.path(`${group}/train`, id).post());
    const status = (await good(client.path(`${group}/training`, id).get())).body;
    assert.equal(status.status, 'succeeded');
    for (const field of ['createdDateTime', 'lastActionDateTime', 'lastSuccessfulTrainingDateTime']) {
      assert.ok(!Number.isNaN(Date.parse(status[field])), `${field}: ${status[field]}`);
    }
  });

  await tell(`${family}: identify`, async () => {
    const faceIds = [...probes.values()];
    const answers = (await good(client.path('/identify').post({ body: { faceIds, [idField]: id, maxNumOfCandidatesReturned: 2 } }))).body;
    assert.deepEqual(answers.map((a) => a.faceId), faceIds, 'in the order of the request');
    for (const [i, name] of [...probes.keys()].entries()) {
      assert.equal(answers[i].candidates[0]?.personId, persons.get(name), `${name}: ${JSON.stringify(answers[i])}`);
      assert.ok(answers[i].candidates[0].confidence >= 0.5 && answers[i].candidates[0].confidence <= 1);
    }
    const stranger = (await detectBytes(cast.stranger))[cast.stranger.face].faceId;
    const [answer] = (await good(client.path('/identify').post({ body: { faceIds: [stranger], [idField]: id } }))).body;
    assert.deepEqual(answer.candidates, [], 'nobody knows the stranger');
  });

  await tell(`${family}: verify against a person`, async () => {
    const [one, two] = cast.people;
    const same = (await good(client.path('/verify').post({ body: { faceId: probes.get(one.name), personId: persons.get(one.name), [idField]: id } }))).body;
    assert.equal(same.isIdentical, true);
    assert.ok(same.confidence >= 0.5);
    const other = (await good(client.path('/verify').post({ body: { faceId: probes.get(one.name), personId: persons.get(two.name), [idField]: id } }))).body;
    assert.equal(other.isIdentical, false);
  });

  await tell(`${family}: pages of persons`, async () => {
    const all = (await good(client.path(`${group}/persons`, id).get())).body;
    assert.equal(all.length, cast.people.length);
    const paged = [];
    for (let start = ''; ;) {
      const page = (await good(client.path(`${group}/persons`, id).get({ queryParameters: start ? { start, top: 1 } : { top: 1 } }))).body;
      if (page.length === 0) break;
      assert.equal(page.length, 1);
      paged.push(page[0].personId);
      start = page[0].personId;
    }
    assert.deepEqual(paged, all.map((p) => p.personId));
    assert.deepEqual(paged, [...paged].sort(), 'sorted by id');
    const groups = (await good(client.path(`/${family}`).get({ queryParameters: { top: 1, returnRecognitionModel: true } }))).body;
    assert.equal(groups.length, 1);
    assert.equal(groups[0].recognitionModel, model);
  });

  await tell(`${family}: what is refused`, async () => {
    await refused(client.path(group, id).put({ body: { name: 'again', recognitionModel: model } }), 409,
      family === 'persongroups' ? 'PersonGroupExists' : 'LargePersonGroupExists');
    await refused(client.path(group, 'NOT-AN-ID').put({ body: { name: 'x' } }), 400, 'BadArgument');
    await refused(client.path(group, 'nobody-made-it').get(), 404, family === 'persongroups' ? 'PersonGroupNotFound' : 'LargePersonGroupNotFound');
    await refused(client.path(`${group}/persons/{personId}`, id, unknownId).get(), 404, 'PersonNotFound');
    await refused(client.path('/identify').post({ body: { faceIds: [unknownId], [idField]: id } }), 400, 'FaceNotFound');
    await refused(client.path('/identify').post({ body: { faceIds: [...probes.values()].slice(0, 1), [idField]: 'nobody-made-it' } }), 400,
      family === 'persongroups' ? 'PersonGroupNotFound' : 'LargePersonGroupNotFound');
  });

  await tell(`${family}: a deleted person is gone at once`, async () => {
    const [gone, stays] = cast.people;
    await empty(client.path(`${group}/persons/{personId}/persistedfaces/{persistedFaceId}`, id, persons.get(stays.name), faceOf.get(stays.name)[0]).delete());
    const left = (await good(client.path(`${group}/persons/{personId}`, id, persons.get(stays.name)).get())).body;
    assert.equal(left.persistedFaceIds.length, faceOf.get(stays.name).length - 1);
    await empty(client.path(`${group}/persons/{personId}`, id, persons.get(gone.name)).delete());
    const [answer] = (await good(client.path('/identify').post({ body: { faceIds: [probes.get(gone.name)], [idField]: id, maxNumOfCandidatesReturned: 5 } }))).body;
    assert.ok(!answer.candidates.some((c) => c.personId === persons.get(gone.name)));
    await empty(client.path(group, id).delete());
    await refused(client.path(group, id).get(), 404, family === 'persongroups' ? 'PersonGroupNotFound' : 'LargePersonGroupNotFound');
  });
}

await groupStory('persongroups', 'personGroupId', 'office-new');
await groupStory('largepersongroups', 'largePersonGroupId', 'campus-new');

await tell('verify: face against face', async () => {
  const [one, two] = cast.people;
  const again = (await detectBytes(one.photos[0]))[one.photos[0].face].faceId;
  const same = (await good(client.path('/verify').post({ body: { faceId1: probes.get(one.name), faceId2: again } }))).body;
  assert.equal(same.isIdentical, true);
  const other = (await good(client.path('/verify').post({ body: { faceId1: probes.get(one.name), faceId2: probes.get(two.name) } }))).body;
  assert.equal(other.isIdentical, false);
  await refused(client.path('/verify').post({ body: { faceId1: probes.get(one.name), faceId2: unknownId } }), 404, 'FaceNotFound');
});

const enrolled = []; // { name, faceId } of every enrolment photo
await tell('find similar: among face ids', async () => {
  for (const person of cast.people) {
    for (const photo of person.photos) enrolled.push({ name: person.name, faceId: (await detectBytes(photo))[photo.face].faceId });
  }
  const [one] = cast.people;
  const own = enrolled.filter((e) => e.name === one.name).map((e) => e.faceId).sort();
  const faceIds = enrolled.map((e) => e.faceId);
  const person = (await good(client.path('/findsimilars').post({ body: { faceId: probes.get(one.name), faceIds } }))).body;
  assert.deepEqual(person.map((s) => s.faceId).sort(), own);
  assert.ok(person.every((s) => s.persistedFaceId === undefined));
  const faces = (await good(client.path('/findsimilars').post({ body: { faceId: probes.get(one.name), faceIds, mode: 'matchFace' } }))).body;
  assert.equal(faces.length, faceIds.length);
  const confidences = faces.map((s) => s.confidence);
  assert.deepEqual(confidences, [...confidences].sort((a, b) => b - a), 'best first');
});

await tell('group', async () => {
  const faceIds = enrolled.map((e) => e.faceId);
  const grouped = (await good(client.path('/group').post({ body: { faceIds } }))).body;
  assert.deepEqual([...grouped.groups.flat(), ...grouped.messyGroup].sort(), [...faceIds].sort(), 'every face once');
  for (const together of grouped.groups) {
    assert.equal(new Set(together.map((id) => enrolled.find((e) => e.faceId === id).name)).size, 1, 'nobody is taken for somebody else');
  }
});

// Face lists come in two sizes as well; the large one is trained, the small one carries its faces in itself.
async function listStory(family, idField, id) {
  const list = `/${family}/{${idField}}`;
  const large = family === 'largefacelists';
  const owner = new Map(); // persistedFaceId -> name

  await tell(`${family}: create and fill`, async () => {
    await empty(client.path(list, id).put({ body: { name: 'badges', userData: 'east', recognitionModel: model } }));
    for (const person of cast.people) {
      for (const photo of person.photos) {
        const added = (await good(client.path(`${list}/persistedfaces`, id).post({
          contentType: 'application/octet-stream', body: bytes(photo),
          queryParameters: { targetFace: asTarget(boxes.get(photo.file + photo.face)), userData: person.name },
        }))).body;
        owner.set(added.persistedFaceId, person.name);
      }
    }
    const read = (await good(client.path(list, id).get({ queryParameters: { returnRecognitionModel: true } }))).body;
    assert.equal(read.name, 'badges');
    assert.equal(read.recognitionModel, model);
    const faces = large ? (await good(client.path(`${list}/persistedfaces`, id).get())).body : read.persistedFaces;
    assert.deepEqual(faces.map((f) => [f.persistedFaceId, f.userData]).sort(), [...owner].sort());
  });

  if (large) {
    const body = { faceId: [...probes.values()][0], largeFaceListId: id };
    await tell(`${family}: find similar before training`, () => refused(client.path('/findsimilars').post({ body }), 400, 'LargeFaceListNotTrained'));
    await tell(`${family}: train, by the client's own poller`, () => trained(client.path(`${list}/train`, id).post()));
  }

  await tell(`${family}: find similar`, async () => {
    for (const [name, faceId] of probes) {
      const found = (await good(client.path('/findsimilars').post({ body: { faceId, [idField]: id } }))).body;
      assert.ok(found.length > 0, `${name} finds nobody`);
      assert.ok(found.every((s) => s.faceId === undefined && owner.get(s.persistedFaceId) === name), JSON.stringify(found));
    }
    await refused(client.path('/findsimilars').post({ body: { faceId: unknownId, [idField]: id } }), 400, 'FaceNotFound');
  });

  await tell(`${family}: delete`, async () => {
    const [face] = owner.keys();
    await empty(client.path(`${list}/persistedfaces/{persistedFaceId}`, id, face).delete());
    await refused(client.path(`${list}/persistedfaces/{persistedFaceId}`, id, face).delete(), 404, 'PersistedFaceNotFound');
    await empty(client.path(list, id).delete());
    await refused(client.path(list, id).get(), 404, large ? 'LargeFaceListNotFound' : 'FaceListNotFound');
  });
}

await listStory('facelists', 'faceListId', 'badges-new');
await listStory('largefacelists', 'largeFaceListId', 'archive-new');

await tell('errors, as the client decodes them', async () => {
  const stranger = createFaceClient(endpoint, new AzureKeyCredential('0'.repeat(32)));
  const unauthorized = await stranger.path('/facelists').get();
  assert.equal(unauthorized.status, '401');
  assert.equal(unauthorized.body.error.code, '401');
  const detect = (photo, queryParameters) => client.path('/detect').post({ contentType: 'application/octet-stream', body: photo, queryParameters });
  await refused(detect(Buffer.alloc(2048, 7)), 400, 'InvalidImage');
  await refused(detect(Buffer.alloc(6 * 1024 * 1024 + 1, 7)), 400, 'InvalidImageSize');
  await refused(detect(bytes(cast.stranger), { recognitionModel: 'recognition_99' }), 400, 'BadArgument');
  await refused(client.path('/detect').post({ contentType: 'application/json', body: { url: 'ftp://example.org/a.jpg' } }), 400, 'InvalidURL');
  const retired = await detect(bytes(cast.stranger), { returnFaceAttributes: ['emotion'] });
  assert.equal(retired.status, '403');
  assert.equal(retired.body.error.code, 'InvalidRequest');
  assert.equal(retired.body.error.innererror.code, 'UnsupportedFeature');
});
