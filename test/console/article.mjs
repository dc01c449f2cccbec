// The flows of the article, in both languages, with scripts and without: a key by its URI, a key selected from a vault, a
// new version, back to service-managed keys. Then what happens to people who work: somebody else changes the same thing,
// the session ends in the middle of a form, a button is pressed twice, somebody goes back, the server restarts.
import { assert, base, facts, finish, signInAddress, spread, tell, visit } from './lib.mjs';
import { act, hands } from './steps.mjs';

const words = {
  en: {
    service: 'Service-managed key', active: 'Customer-managed key: active', accepted: 'The key is accepted.', save: 'Save',
    other: 'Different key', use: 'Use it', back: 'Return to service-managed keys', newer: 'A newer version of the key is available',
    secret: 'This is the identifier of a secret', pinned: 'Only this version is used', unprotected: /purge protection/i,
    region: /region/i, kind: /RSA/, changed: /changed this resource on/, ended: 'Your session has ended', enter: 'Sign in',
    tags: 'Edit tags', saveTags: 'Save tags',
  },
  fr: {
    service: 'Clé gérée par le service', active: 'Clé gérée par le client : active', accepted: 'La clé est acceptée.', save: 'Enregistrer',
    other: 'Autre clé', use: 'L’utiliser', back: 'Revenir aux clés gérées par le service', newer: 'Une version plus récente de la clé est disponible',
    secret: 'C’est l’identificateur d’un secret', pinned: 'Seule cette version est utilisée', unprotected: /protection contre le vidage/i,
    region: /région/i, kind: /RSA/, changed: /Une autre personne a modifié cette ressource/, ended: 'Votre session est terminée', enter: 'Se connecter',
  },
};
const encryption = (name) => `/console/resources/${name}/encryption`;

// customerkey.mjs takes the other two pairs of languages and browsers.
await spread([['en', true], ['fr', false]], 2, async ([lang, js]) => {
  const name = `${lang}-${js ? 'script' : 'plain'}`;
  const at = encryption(name);
  const w = words[lang];
  const v = await visit({ lang, js, own: true, expect: [422] }); // a message is for the next page of its session
  const h = hands(v.page);
  const say = (what) => `${what}: ${lang}, ${js ? 'with' : 'without'} scripts`;
  const fact = (text) => h.page.locator('dl.facts').first().getByText(text, { exact: true }).first().waitFor();

  await tell(say('the URI of something else is refused, and stays to be corrected'), async () => {
    const wrong = facts.first.replace('/keys/', '/secrets/');
    await h.choose(name, wrong);
    await h.page.locator('#e-uri').getByText(w.secret).waitFor();
    assert.equal(await h.page.locator('[name=uri]').inputValue(), wrong);
  });

  await tell(say('by the URI of a key'), async () => {
    await h.choose(name, facts.first);
    await fact('safe'); // the URI is taken apart
    await fact('faces');
    await fact(facts.first.split('/').at(-1));
    await h.page.locator('dl.facts').first().getByText(w.pinned).waitFor();
    assert.deepEqual(await h.unmet(), []);
    await h.send(w.save, w.accepted);
    await h.state(w.active);
    assert.equal(new URL(h.page.url()).pathname, at);
  });

  await tell(say('a new version of the key'), async () => {
    await h.page.locator('#live, main').first().getByText(w.newer).first().waitFor();
    await fact(facts.first.split('/').at(-1)); // still the version that was saved
    await h.send(w.use, w.accepted);
    await fact(facts.second.split('/').at(-1));
    await h.state(w.active);
  });

  await tell(say('another key, selected from a vault'), async () => {
    await h.press(h.link(w.other));
    await h.page.locator('[name=type][value=customer]').check();
    await h.page.locator('[name=how][value=vault]').check();
    await h.press(h.page.locator(`form[action="${at}/choose"] button`));
    const choice = (value) => h.page.locator('.choice').filter({ has: h.page.locator(`input[value="${value}"]`) });
    for (const [vault, reason] of [['bare', w.unprotected], ['far', w.region]]) {
      assert.equal(await choice(vault).locator('input').isDisabled(), true, `the vault ${vault} cannot be chosen`);
      assert.match(await choice(vault).innerText(), reason);
    }
    await choice('safe').locator('input').check();
    await h.press(h.page.locator(`form[action="${at}/vault"] button`));
    assert.equal(await choice('curve').locator('input').isDisabled(), true, 'a key of another kind cannot be chosen');
    assert.match(await choice('curve').innerText(), w.kind);
    await choice('other').locator('input').check();
    await h.press(h.page.locator(`form[action="${at}/vault"] button`));
    await fact('other');
    assert.deepEqual(await h.unmet(), []);
    await h.send(w.save, w.accepted);
    await h.state(w.active);
    await fact('other');
  });

  await tell(say('back to service-managed keys, by the form of the article'), async () => {
    await h.press(h.link(w.other));
    await h.page.locator('[name=type][value=service]').check();
    await h.press(h.page.locator(`form[action="${at}/choose"] button`));
    await h.press(h.page.locator(`form[action="${at}/service"] button`));
    await h.state(w.service);
  });

  await v.end();
});

for (const lang of ['en', 'fr']) {
  const w = words[lang];
  await tell(`two people change one resource at the same time: ${lang}`, async () => {
    const v = await visit({ lang, expect: [409] });
    const h = hands(v.page);
    const meanwhile = await visit();
    const m = hands(meanwhile.page);
    const name = `${lang}-shared`;
    await h.choose(name, facts.second);
    await m.go(`/console/resources/${name}`);
    await m.page.locator('summary').last().click();
    await m.page.locator('[name=tags]').fill('team = night');
    await m.press(m.page.locator('form[action$="/tags"] button'));
    await h.press(h.button(w.save));
    await h.page.locator('.alert.bad').getByText(w.changed).waitFor();
    await h.send(w.save, w.accepted); // the page has shown the resource as it is
    await h.state(w.active);
    await m.go(`/console/resources/${name}`);
    await m.page.getByText('night').first().waitFor(); // neither change is lost
    await meanwhile.end();
    await v.end();
  });
}

for (const js of [true, false]) {
  const with_ = js ? 'with scripts' : 'without scripts';

  await tell(`the session ends in the middle of a form: ${with_}`, async () => {
    const v = await visit({ js, own: true, principal: facts.ada, expect: [401] });
    const h = hands(v.page);
    const fill = async () => {
      await h.page.locator('[name=name]').fill(`later-${js}`);
      await h.page.locator('[name=contact]').fill('ada@contoso.example');
      await h.page.locator('[name=reason]').fill('Doors.');
    };
    await h.go('/console/requests');
    await fill();
    const operator = await visit({ js }); // ends the session, whose cookie stays here
    const o = hands(operator.page);
    await o.go(`/console/access/people/${facts.ada}`);
    await o.press(o.page.locator(`form[action="/console/access/people/${facts.ada}/signout"] button`));
    await operator.end();
    await h.press(h.page.locator('form[action="/console/requests"] button'));
    await h.page.getByText(words.en.ended).waitFor();
    await h.page.goto(await signInAddress(facts.ada));
    await h.press(h.button(words.en.enter));
    assert.equal(new URL(h.page.url()).pathname, '/console/requests', 'the page of the form'); // nothing was sent
    assert.equal(await h.page.getByText(`later-${js}`, { exact: true }).count(), 0);
    const typed = (name) => h.page.locator(`[name=${name}]`).inputValue();
    assert.deepEqual([await typed('name'), await typed('contact'), await typed('reason')],
      [`later-${js}`, 'ada@contoso.example', 'Doors.'], 'what was typed');
    await h.press(h.page.locator('form[action="/console/requests"] button'));
    assert.equal(new URL(h.page.url()).pathname, `/console/requests/later-${js}`);
    await v.end();
  });

  await tell(`a button that is pressed twice does its work once: ${with_}`, async () => {
    const v = await visit({ js });
    const h = hands(v.page);
    const key = '/console/vaults/safe/keys/twice';
    await h.go(key);
    const before = await h.page.locator('[aria-labelledby=versions] tbody tr').count();
    await h.page.locator(`form[action="${key}/rotate"] button`).dblclick();
    await h.says('The new version is');
    await h.page.waitForLoadState('networkidle');
    await h.go(key);
    assert.equal(await h.page.locator('[aria-labelledby=versions] tbody tr').count(), before + 1);
    await v.end();
  });

  await tell(`go back, and send the form again: ${with_}`, async () => {
    const v = await visit({ js, expect: [409] });
    const h = hands(v.page);
    await h.go('/console/requests');
    const send = async (reason) => {
      await h.page.locator('[name=name]').fill(`back-${js}`);
      await h.page.locator('[name=contact]').fill('ada@contoso.example');
      await h.page.locator('[name=reason]').fill(reason);
      await h.press(h.page.locator('form[action="/console/requests"] button'));
    };
    await send('Doors.');
    assert.equal(new URL(h.page.url()).pathname, `/console/requests/back-${js}`);
    await h.page.goBack({ waitUntil: 'commit' }); // browsers may show it out of their memory, without loading
    await h.page.locator('[name=reason]').waitFor();
    await send('Windows.');
    await h.page.locator('#e-name').waitFor(); // the name is taken: the first is not overwritten
    assert.equal(await h.page.locator('[name=reason]').inputValue(), 'Windows.');
    await h.go(`/console/requests/back-${js}`);
    await h.page.getByText('Doors.', { exact: true }).waitFor();
    await v.end();
  });
}

await tell('a click is not lost when the page changes under it', async () => {
  const v = await visit();
  const h = hands(v.page);
  await h.go(encryption('en-shared'));
  await h.state(words.en.active);
  await h.page.locator('#do-lock').hover();
  await h.page.mouse.down();
  for (let i = 0; i < 2; i++) await (await h.page.waitForResponse((r) => r.url() === base + encryption('en-shared'))).finished();
  await Promise.all([h.page.waitForURL(`${base}${encryption('en-shared')}/lock`), h.page.mouse.up()]);
  await v.end();
});

await tell('the server restarts between a form and its sending', async () => {
  const v = await visit({ expect: [422] });
  const h = hands(v.page);
  const watching = hands(await v.context.newPage());
  await watching.go(encryption('en-shared')); // asks again every few seconds, also while nobody answers
  await watching.state(words.en.active);
  await h.choose('restarted', facts.second);
  await act('restart');
  await h.send(words.en.save, words.en.accepted);
  await h.state(words.en.active);
  const polled = watching.page.waitForResponse((r) => r.url() === base + encryption('en-shared') && r.status() === 200);
  await polled;
  await watching.state(words.en.active);
  v.problems.splice(0, v.problems.length, ...v.problems.filter((p) => !/htmx:(sendError|afterRequest)/.test(p))); // while there was no server
  await v.end();
});

await finish();
