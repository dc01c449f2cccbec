// Signing in with a real provider of OpenID Connect: as a person, as a member of a group, and as somebody whom nobody knows.
import { assert, base, facts, finish, tell, visit } from './lib.mjs';

// The provider's own pages ask for a font, which they do not get.
const allow = [facts.issuer, 'https://fonts.googleapis.com'];
const fonts = (v) => v.context.route('https://fonts.googleapis.com/**', (route) => route.fulfill({ body: '' }));

// signIn begins on the page of the console, and signs in at the provider under a name.
async function signIn(v, name, to) {
  await fonts(v);
  await v.go(`/console/signin?to=${encodeURIComponent(to)}`);
  await v.page.locator('form[action="/console/signin/openid/begin"] button').click();
  await v.page.waitForURL(`${facts.issuer}/interaction/**`);
  await v.page.locator('input[name="login"]').fill(name);
  await v.page.locator('input[name="password"]').fill('any');
  await v.page.locator('button[type="submit"]').click();
  await v.page.waitForURL(`${facts.issuer}/interaction/**`);
  await v.page.locator('form button[type="submit"]').click(); // the provider asks whether it may tell
}

for (const js of [true, false]) {
  const with_ = js ? 'with scripts' : 'without scripts';

  await tell(`a person: ${with_}`, async () => {
    const v = await visit({ js, principal: null, allow });
    await signIn(v, 'ada', '/console/account');
    await v.page.waitForURL(`${base}/console/account`);
    assert.ok((await v.page.locator('main').innerText()).includes('Through an external issuer'));
    const cookie = (await v.context.cookies(base)).find((c) => c.name === '__Host-visage');
    assert.equal(cookie.sameSite, 'Strict');
    // Nobody signs in twice at a provider that knows them; the console ends the session that there was.
    await v.go('/console/signin?to=%2Fconsole');
    await v.page.locator('form[action="/console/signin/openid/begin"] button').click();
    await v.page.waitForURL(`${base}/console`);
    const later = (await v.context.cookies(base)).find((c) => c.name === '__Host-visage');
    assert.notEqual(later.value, cookie.value, 'the secret of the session is the one from before');
    await v.end();
  });

  await tell(`a member of a group: ${with_}`, async () => {
    const v = await visit({ js, lang: 'fr', principal: null, allow });
    await signIn(v, 'grace', '/console/account');
    await v.page.waitForURL(`${base}/console/account`);
    assert.ok((await v.page.locator('main').innerText()).includes('developers'));
    assert.ok((await v.page.locator('header .person').innerText()).includes('grace of the issuer'));
    await v.end();
  });

  await tell(`a stranger: ${with_}`, async () => {
    const v = await visit({ js, principal: null, allow, expect: [401, 403] });
    await signIn(v, 'eve', '/console');
    await v.page.waitForURL(`${base}/console/signin/openid/done`);
    const said = await v.page.locator('main').innerText();
    assert.ok(said.includes('eve') && said.includes(facts.issuer), said);
    assert.equal(await v.go('/console'), 401);
    await v.end();
  });
}

await finish();
