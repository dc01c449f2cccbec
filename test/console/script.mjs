// What console.js does, on a page made for it: under the policy of the true pages, and with their script and style.
import { assert, base, finish, tell, visit } from './lib.mjs';

const body = `
<main>
<button type="button" data-copy="text to copy"><span>Copy</span></button>
<input data-filter="table" aria-label="Filter">
<table class="list" id="table"><tbody><tr><th>first row</th></tr><tr><th>second row</th></tr></tbody></table>
<form class="drop" method="post" action="/console/made/upload" enctype="multipart/form-data" data-upload="count">
<input type="hidden" name="token" value="a token">
<input type="file" id="photos" name="photo" multiple data-preview="preview">
<div id="preview" class="preview"></div>
<button type="button" class="js-only" data-camera="photos"><span>Camera</span></button>
<button id="send"><span>Send</span></button>
</form>
<p id="count">0 photos</p>
<form method="post" action="/console/made/passkey" data-passkey="create" data-options-url="/console/made/options">
<input type="hidden" name="token" value="a token"><input type="hidden" name="credential">
<button id="create"><span>Create</span></button>
</form>
<form method="post" action="/console/made/passkey" data-passkey="get">
<input type="hidden" name="token" value="a token"><input type="hidden" name="credential">
<button id="get"><span>Use</span></button>
</form>
<p class="js-only" id="with">with scripts</p><p class="nojs-only" id="without">without scripts</p>
</main>`;

const v = await visit({ principal: null, expect: [422] });

// The frame of a true page, around the parts above.
let head, policy, attributes;
await tell('take the frame of a true page', async () => {
  await v.go('/console/signin');
  policy = (await (await v.context.request.get(`${base}/console/signin`)).headers())['content-security-policy'];
  assert.match(policy, /default-src 'none'/);
  head = await v.page.locator('head').innerHTML();
  attributes = await v.page.evaluate(() => [...document.body.attributes].map((a) => `${a.name}="${a.value}"`).join(' '));
  attributes += await v.page.evaluate(() => '>' + [...document.querySelectorAll('template')].map((t) => t.outerHTML).join('') + '<i hidden></i');
});

const sent = [];
let posted;
await v.context.route(`${base}/console/made**`, async (route) => {
  const request = route.request();
  const path = new URL(request.url()).pathname;
  const html = (status, content) => route.fulfill({
    status, headers: { 'Content-Security-Policy': policy, 'Content-Type': 'text/html; charset=utf-8' },
    body: `<!doctype html><html lang="en"><head>${head}</head><body ${attributes}>${content}</body></html>`,
  });
  if (path === '/console/made') return html(200, body);
  if (path === '/console/made/upload') {
    const data = request.postDataBuffer().toString('latin1');
    const name = /filename="([^"]*)"/.exec(data)[1];
    sent.push({ name, token: data.includes('a token'), accept: request.headers().accept });
    if (name.startsWith('bad')) return html(422, '<main><p class="alert bad"><span>There is no <b>face</b> on it.</span></p></main>');
    return html(200, `<main><p class="alert ok"><span>Added.</span></p><p id="count">${sent.length} photos</p></main>`);
  }
  const key = { rp: { id: 'localhost', name: 'Visage' }, user: { id: 'AQID', name: 'ada', displayName: 'Ada' }, challenge: 'AAECAwQFBgcICQoLDA0ODw',
    pubKeyCredParams: [{ type: 'public-key', alg: -7 }, { type: 'public-key', alg: -257 }], authenticatorSelection: { residentKey: 'required', userVerification: 'required' } };
  if (path === '/console/made/options') return route.fulfill({ json: { publicKey: key } });
  posted = new URLSearchParams(request.postData());
  return html(200, '<main><p id="posted">posted</p></main>');
});

const open = () => v.go('/console/made');
const png = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==', 'base64');
const photo = (name) => ({ name, mimeType: 'image/png', buffer: png });

await tell('what needs scripts shows, what stands in for them does not', async () => {
  await open();
  assert.equal(await v.page.locator('#with').isVisible(), true);
  assert.equal(await v.page.locator('#without').isVisible(), false);
});

await tell('copy, and say so', async () => {
  await v.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
  await v.page.locator('[data-copy]').click();
  await v.page.locator('[role=status]').filter({ hasText: /./ }).waitFor({ state: 'attached' });
  assert.equal(await v.page.evaluate(() => navigator.clipboard.readText()), 'text to copy');
});

await tell('filter a table', async () => {
  await v.page.locator('[data-filter]').fill('SECOND row');
  assert.deepEqual(await v.page.locator('#table tr').evaluateAll((rows) => rows.map((r) => r.hidden)), [true, false]);
  await v.page.locator('[data-filter]').fill('');
  assert.deepEqual(await v.page.locator('#table tr').evaluateAll((rows) => rows.map((r) => r.hidden)), [false, false]);
});

await tell('show a chosen photo', async () => {
  await v.page.locator('#photos').setInputFiles([photo('one.png')]);
  const image = v.page.locator('#preview img');
  await image.waitFor();
  assert.match(await image.getAttribute('src'), /^blob:/);
  assert.equal(await image.evaluate((i) => i.decode().then(() => i.naturalWidth)), 1);
});

await tell('upload several files, each with its result', async () => {
  const hostile = 'bad <img src=x onerror=alert(1)>.png';
  await v.page.locator('#photos').setInputFiles([photo('one.png'), photo(hostile), photo('three.png')]);
  await v.page.locator('#send').click();
  await v.page.locator('.uploads li:nth-child(3).ok').waitFor();
  await v.page.locator('#count').filter({ hasText: '3 photos' }).waitFor();
  assert.deepEqual(await v.page.locator('.uploads li').evaluateAll((items) => items.map((i) => i.className)), ['ok', 'bad', 'ok']);
  assert.equal(await v.page.locator('.uploads li:nth-child(2) .name').textContent(), hostile);
  assert.equal(await v.page.locator('.uploads li:nth-child(2) .result').textContent(), 'There is no face on it.');
  assert.equal(sent.length, 3);
  assert.ok(sent.every((s) => s.token && s.accept === 'text/html'));
  assert.equal(await v.page.locator('#photos').evaluate((i) => i.files.length), 0);
});

for (const event of ['drop', 'paste']) {
  await tell(`${event} photos`, async () => {
    await open();
    await v.page.evaluate(([event, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(bytes)], 'dropped.png', { type: 'image/png' }));
      const zone = document.querySelector('.drop');
      zone.dispatchEvent(event === 'drop' ? new DragEvent('drop', { bubbles: true, cancelable: true, dataTransfer: data }) :
        new ClipboardEvent('paste', { bubbles: true, cancelable: true, clipboardData: data }));
    }, [event, [...png]]);
    assert.deepEqual(await v.page.locator('#photos').evaluate((i) => [...i.files].map((f) => f.name)), ['dropped.png']);
    await v.page.locator('#preview img').waitFor();
  });
}

await tell('take a photo with the camera', async () => {
  await v.context.grantPermissions(['camera'], { origin: base });
  await open();
  await v.page.locator('[data-camera]').click();
  const video = v.page.locator('.camera video');
  await video.waitFor();
  await video.evaluate((e) => e.videoWidth || new Promise((r) => e.addEventListener('loadedmetadata', r, { once: true })));
  await v.page.locator('.camera button.primary').click();
  await v.page.locator('#preview img').waitFor();
  assert.deepEqual(await v.page.locator('#photos').evaluate((i) => [...i.files].map((f) => f.name)), ['camera.jpg']);
  assert.equal(await v.page.locator('.camera').count(), 0);
});

await tell('passkeys: create one, use it, and refuse without one', async () => {
  const devtools = await v.context.newCDPSession(v.page);
  await devtools.send('WebAuthn.enable');
  const { authenticatorId } = await devtools.send('WebAuthn.addVirtualAuthenticator', { options: {
    protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true,
  } });
  await open();
  await v.page.locator('#create').click();
  await v.page.locator('#posted').waitFor();
  const created = JSON.parse(posted.get('credential'));
  assert.equal(posted.get('token'), 'a token');
  assert.equal(created.type, 'public-key');
  assert.ok(created.response.attestationObject && created.response.clientDataJSON);

  const ask = async (options) => {
    posted = undefined;
    await open();
    await v.page.locator('form[data-passkey="get"]').evaluate((f, json) => { f.dataset.options = json; }, JSON.stringify(options));
    await v.page.locator('#get').click();
  };
  const options = { challenge: 'AAECAwQFBgcICQoLDA0ODw', rpId: 'localhost', userVerification: 'required', timeout: 60000 };
  await ask({ ...options, allowCredentials: [{ type: 'public-key', id: created.id }] });
  await v.page.locator('#posted').waitFor();
  const used = JSON.parse(posted.get('credential'));
  assert.equal(used.id, created.id);
  assert.ok(used.response.signature && used.response.authenticatorData);

  await devtools.send('WebAuthn.removeVirtualAuthenticator', { authenticatorId });
  await ask({ ...options, rpId: 'another.example' }); // a site that this page is not of
  await v.page.locator('form[data-passkey="get"] .alert.bad').waitFor();
  assert.equal(posted, undefined);
});

await v.end();
await finish();
