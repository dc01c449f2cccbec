// Signing in and out, the languages, and what every page has: with scripts and without, in both languages.
import { assert, base, finish, signInAddress, tell, visit } from './lib.mjs';

for (const js of [true, false]) {
  for (const lang of ['en', 'fr']) {
    const with_ = `${lang}, ${js ? 'with' : 'without'} scripts`;

    await tell(`sign in and out: ${with_}`, async () => {
      const v = await visit({ js, lang, principal: null, expect: [401] });
      assert.equal(await v.go('/console'), 401);
      assert.equal(await v.page.locator('html').getAttribute('lang'), lang);
      const address = await signInAddress();
      await v.page.goto(address);
      await v.page.locator('form[action^="/console/signin/"] button').click();
      await v.page.waitForURL(`${base}/console`);
      assert.equal(await v.page.locator('html').getAttribute('lang'), lang);
      assert.ok((await v.page.locator('table.list tbody tr').count()) >= 1, 'the first page lists the default resource');

      await v.page.goto(address); // a second time
      assert.equal(await v.page.locator('.alert.bad').count(), 1, 'an address that was used says so');

      await v.go('/console');
      await v.page.locator('form[action="/console/signout"] button').click();
      await v.page.waitForURL(/\/console\/signin/);
      await v.page.goBack(); // to a page that must not come from the browser's cache
      assert.equal(await v.page.locator('table.list').count(), 0, 'a page is shown after signing out');
      await v.end();
    });
  }
}

await tell('choose a language', async () => {
  const v = await visit({ lang: 'en' });
  await v.go('/console/resources/default');
  await v.page.locator('form[action="/console/language"] button[lang="fr"]').click();
  await v.page.waitForLoadState();
  assert.equal(new URL(v.page.url()).pathname, '/console/resources/default');
  assert.equal(await v.page.locator('html').getAttribute('lang'), 'fr');
  await v.go('/console');
  assert.equal(await v.page.locator('html').getAttribute('lang'), 'fr', 'the choice is remembered');
  await v.end();
});

await tell('the keyboard alone', async () => {
  const v = await visit();
  await v.go('/console');
  await v.page.keyboard.press('Tab');
  const skip = v.page.locator('.skip');
  assert.ok(await skip.evaluate((e) => e === document.activeElement), 'the first stop is the link to the content');
  await v.page.keyboard.press('Enter');
  assert.ok(await v.page.locator('main').evaluate((e) => e === document.activeElement), 'it leads to the content');
  await v.end();
});

await tell('copy a value', async () => {
  const v = await visit();
  await v.context.grantPermissions(['clipboard-read', 'clipboard-write'], { origin: base });
  await v.go('/console/resources/default');
  const button = v.page.locator('[data-copy]').first();
  await button.click();
  assert.equal(await v.page.evaluate(() => navigator.clipboard.readText()), await button.getAttribute('data-copy'));
  await v.end();
});

await tell('without scripts, nothing is offered that needs them', async () => {
  const v = await visit({ js: false });
  await v.go('/console/resources/default');
  for (const element of await v.page.locator('.js-only').all()) {
    assert.equal(await element.isVisible(), false);
  }
  await v.end();
});

await finish();
