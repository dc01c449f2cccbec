// The story of a customer-managed key as a security officer lives it: ask for a place, create a resource, put it under a
// key of its own, lock and unlock it, return. In both languages, with scripts and without.
import { assert, base, finish, spread, tell, visit } from './lib.mjs';

const words = {
  en: { service: 'Service-managed key', active: 'Customer-managed key: active', locked: 'Locked' },
  fr: { service: 'Clé gérée par le service', active: 'Clé gérée par le client\u00a0: active', locked: 'Verrouillée' },
};

// article.mjs takes the other two pairs.
await spread([['fr', true], ['en', false]], 2, async ([lang, js]) => {
  const name = `face-${lang}-${js ? 'script' : 'plain'}`;
  const at = `/console/resources/${name}/encryption`;
  const v = await visit({ lang, js, own: true, expect: [400, 409, 422] }); // a message is for the next page of its session
  const { page } = v;
  const say = (what) => `${what}: ${lang}, ${js ? 'with' : 'without'} scripts`;
  const send = (action) => page.locator(`form[action="${action}"] button`).first().click();
  const arrive = (path) => page.waitForURL(base + path);

  // state waits until the badge of the resource says something. A page asks again by itself, with scripts or without.
  const state = (text) => page.locator('.badge').filter({ hasText: text }).first().waitFor();

  await tell(say('ask for a place, and approve'), async () => {
    await v.go('/console/requests');
    await page.locator('[name=name]').fill(name);
    await page.locator('[name=contact]').fill('ada@example.org');
    await page.locator('[name=reason]').fill('Doors.');
    await send('/console/requests');
    await arrive(`/console/requests/${name}`);
    await send(`/console/requests/${name}/approve`);
    await page.locator('.alert.ok').waitFor();
  });

  await tell(say('create a resource, after a refusal that keeps what was typed'), async () => {
    await v.go('/console/create');
    await page.locator('[name=name]').fill('-');
    await page.locator('[name=subdomain]').fill(name);
    await page.locator('[name=tier][value=E0]').check();
    await send('/console/create');
    await page.locator('[name=name][aria-invalid=true]').waitFor();
    assert.equal(await page.locator('[name=subdomain]').inputValue(), name);
    assert.equal(await page.locator('[name=tier][value=E0]').isChecked(), true);
    await page.locator('[name=name]').fill(name);
    await send('/console/create');
    await page.waitForURL((url) => url.pathname.startsWith(`/console/resources/${name}`));
  });

  await tell(say('put it under a key of its own'), async () => {
    await v.go(at);
    await state(words[lang].service);
    await page.locator('[name=type][value=customer]').check();
    await page.locator('[name=how][value=new]').check();
    await page.locator(`form[action="${at}/choose"] button`).click();
    await arrive(`${at}/new`);
    await send(`${at}/new`);
    await page.locator('.checks').waitFor();
    assert.equal(await page.locator('.checks > li.bad').count(), 0);
    await send(at);
    await arrive(at);
    await state(words[lang].active);
  });

  await tell(say('lock it, and unlock it'), async () => {
    await page.locator('#do-lock').click();
    await arrive(`${at}/lock`);
    await page.goBack({ waitUntil: 'commit' });
    await page.locator('#do-lock').waitFor();
    await page.goForward({ waitUntil: 'commit' });
    await send(`${at}/lock`);
    await arrive(at);
    await state(words[lang].locked);
    await send(`${at}/unlock`);
    await state(words[lang].active);
  });

  await tell(say('return to service-managed keys'), async () => {
    await page.locator('#do-return').click();
    await send(`${at}/service`);
    await arrive(at);
    await state(words[lang].service);
  });

  await v.end();
});

await finish();
