// The people of a resource in a browser: photos sent one by one with scripts and all at once without, and photos to try the
// service on, with the faces drawn over them.
import path from 'node:path';
import { assert, facts, finish, tell, visit } from './lib.mjs';

const files = (...names) => names.map((name) => path.join(facts.photos, `${name}.png`));
const people = '/console/resources/default/people';
const shots = process.argv[2];
const shot = async (v, name) => { if (shots) await v.page.screenshot({ path: path.join(shots, `${name}.png`), fullPage: true }); };

for (const [lang, theme, width, none] of [['en', 'light', 1280, 'No face was found'], ['fr', 'dark', 360, 'Aucun visage']]) {
  const v = await visit({ lang, theme, width, expect: [400] });
  const group = `${people}/persongroups/staff-${lang}`;

  await tell(`create a group (${lang})`, async () => {
    await v.go(`${people}/new?kind=persongroups`);
    await v.page.locator('#f-id').fill(`staff-${lang}`);
    await v.page.locator('#f-name').fill('Staff');
    await v.page.locator('main form button.primary').click();
    await v.page.waitForURL(`**${group}`);
  });

  await tell(`send photos one by one, each with its result (${lang})`, async () => {
    await v.go(`${group}/photos`);
    await v.page.locator('#f-photos').setInputFiles(files('Ada', 'nobody', 'both', 'Grace'));
    await v.page.locator('main form button.primary').click();
    await v.page.locator('.uploads li:nth-child(4).ok').waitFor();
    const results = await v.page.locator('.uploads li').evaluateAll((all) => all.map((e) => [e.className, e.querySelector('.result').textContent]));
    assert.deepEqual(results.map((r) => r[0]), ['ok', 'bad', 'bad', 'ok']);
    assert.match(results[1][1], new RegExp(`^${none}`));
    assert.match(results[0][1], /Ada/);
    await v.page.locator('#count').filter({ hasText: '2' }).waitFor();
    await shot(v, `uploads-${lang}`);
  });

  await tell(`detect, with the faces drawn over the photo (${lang})`, async () => {
    await v.go('/console/resources/default/tryit');
    await v.page.locator('#f-photo').setInputFiles(files('both'));
    await v.page.locator('#preview-photo img').waitFor();
    await shot(v, `tryit-form-${lang}`);
    await v.page.locator('main form button.primary').click();
    await v.page.locator('.photo svg rect').nth(1).waitFor();
    assert.equal(await v.page.locator('.photo img').evaluate((i) => i.decode().then(() => i.naturalWidth > 0)), true);
    const wide = await v.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(wide <= 0, `the answer is ${wide} px wider than the window`);
    await shot(v, `tryit-${lang}`);
  });

  await tell(`compare two photos (${lang})`, async () => {
    await v.go('/console/resources/default/tryit/compare');
    await v.page.locator('#f-photo').setInputFiles(files('Ada'));
    await v.page.locator('#f-second').setInputFiles(files('Grace'));
    await v.page.locator('main form button.primary').click();
    await v.page.locator('.photo').nth(1).waitFor();
    await shot(v, `compare-${lang}`);
  });
  await v.end();
}

const v = await visit({ js: false });
await tell('many photos at once, without scripts', async () => {
  await v.go(`${people}/persongroups/staff-en/photos`);
  await v.page.locator('#f-photos').setInputFiles(files('Ada', 'nobody', 'Grace'));
  await v.page.locator('main form button.primary').click();
  await v.page.waitForURL('**/console/jobs/*');
  for (let lines = 0; lines < 3; lines = await v.page.locator('.checks li').count()) await v.page.reload();
  assert.deepEqual(await v.page.locator('.checks li').evaluateAll((all) => all.map((e) => e.className)), ['ok', 'bad', 'ok']);
  await shot(v, 'job');
});

await tell('erase a person, and see the receipt', async () => {
  await v.go(`${people}/persongroups/staff-en`);
  await v.page.locator('tbody a').first().click();
  await v.page.locator('a.danger').click();
  await shot(v, 'erase');
  await v.page.locator('main button.danger').click();
  await v.page.waitForURL('**/receipts/*');
  const file = v.page.locator('a[download]');
  while (await file.count() === 0) await v.page.reload();
  await shot(v, 'receipt');
  await v.page.emulateMedia({ media: 'print' });
  assert.equal(await file.isVisible(), false);
});
await v.end();
await finish();
