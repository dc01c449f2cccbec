// Registering a passkey with an authenticator of the browser's own, signing in with it, and proving who one is with it.
import { assert, base, facts, finish, tell, visit } from './lib.mjs';

// authenticator gives a page an authenticator whose person agrees to everything.
async function authenticator(v) {
  const devtools = await v.context.newCDPSession(v.page);
  await devtools.send('WebAuthn.enable');
  const { authenticatorId } = await devtools.send('WebAuthn.addVirtualAuthenticator', {
    options: {
      protocol: 'ctap2', transport: 'internal', hasResidentKey: true, hasUserVerification: true, isUserVerified: true,
      automaticPresenceSimulation: true,
    },
  });
  return {
    agree: (agrees) => devtools.send('WebAuthn.setUserVerified', { authenticatorId, isUserVerified: agrees }),
  };
}

for (const lang of ['en', 'fr']) {
  const v = await visit({ lang, principal: facts.human, own: true, expect: [401] });
  const device = await authenticator(v);

  await tell(`register: ${lang}`, async () => {
    await v.go('/console/account');
    await v.page.locator('a[href="/console/account/newpasskey"]').click();
    await v.page.locator('#f-name').fill(`laptop ${lang}`);
    await v.page.locator('form[data-passkey] button').click();
    await v.page.waitForURL(`${base}/console/account`).catch(async (err) => {
      throw new Error(await v.page.locator('main').innerText(), { cause: err });
    });
    assert.ok((await v.page.locator('main').innerText()).includes(`laptop ${lang}`));
  });

  await tell(`sign in: ${lang}`, async () => {
    await v.page.locator('form[action="/console/signout"] button').click();
    await v.page.waitForURL(/\/console\/signin/);
    await v.go('/console/signin?to=%2Fconsole%2Faccount');
    await device.agree(false); // as somebody else's finger
    await v.page.locator('form[data-passkey] button').click();
    await v.page.locator('form[data-passkey] .alert.bad').waitFor();
    await device.agree(true);
    await v.page.locator('form[data-passkey] button').click();
    await v.page.waitForURL(`${base}/console/account`);
  });

  await tell(`remove: ${lang}`, async () => {
    await v.page.locator('form[action="/console/account/passkeys"] button').click();
    await v.page.waitForURL(`${base}/console/account`);
    assert.equal(await v.page.locator('form[action="/console/account/passkeys"]').count(), 0);
    await v.end();
  });
}

await finish();
