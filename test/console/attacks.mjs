// What other sites, and hostile texts, must not be able to do to a person who is signed in.
import { assert, base, browser, facts, finish, tell, visit } from './lib.mjs';

const evil = 'https://evil.example';

// lure opens a page of another site in the browser of a person who is signed in.
async function lure(v, html) {
  await v.context.route(`${evil}/**`, (route) => route.fulfill({ contentType: 'text/html', body: `<!doctype html><body>${html}` }));
  await v.page.goto(evil);
}

// tags reads the tags of the resource, as the person sees them.
async function tags() {
  const v = await visit();
  await v.go('/console/resources/default');
  const text = await v.page.locator('section[aria-labelledby="tags"]').textContent();
  await v.end();
  return text;
}

await tell('a form of another site changes nothing', async () => {
  const own = await visit();
  await own.go('/console/resources/default');
  const action = await own.page.locator('form[action$="/tags"]').first().getAttribute('action');
  const fields = await own.page.locator('form[action$="/tags"] input[type=hidden]').evaluateAll((all) => all.map((i) => [i.name, i.value]));
  await own.end();
  const before = await tags();
  // Even with a token that was stolen.
  for (const stolen of [[], fields]) {
    const v = await visit({ expect: [401, 403] });
    const inputs = [...stolen, ['tags', 'stolen = yes']].map(([name, value]) => `<input name="${name}" value="${value}">`).join('');
    await lure(v, `<form method="post" action="${base}${action}">${inputs}<button>Win a prize</button></form>`);
    const answer = v.page.waitForResponse((r) => r.url() === base + action);
    await v.page.locator('button').click();
    assert.ok([401, 403].includes((await answer).status()));
    v.problems.splice(0, v.problems.length, ...v.problems.filter((p) => !p.includes('evil.example')));
    await v.end();
  }
  assert.equal(await tags(), before);
});

await tell('a link of another site takes no session along', async () => {
  const v = await visit({ expect: [401] });
  await lure(v, `<a href="${base}/console/resources/default/keys">Win a prize</a>`);
  const answer = v.page.waitForResponse((r) => r.url().startsWith(`${base}/console`));
  await v.page.locator('a').click();
  assert.equal((await answer).status(), 401);
  await v.context.close();
});

await tell('no page can be framed', async () => {
  const v = await visit({ expect: [401] });
  await lure(v, `<iframe src="${base}/console/signin"></iframe>`);
  await v.page.waitForLoadState('networkidle');
  const frame = v.page.frames().find((f) => f !== v.page.mainFrame());
  assert.equal(await frame?.locator('main').count() ?? 0, 0);
  await v.context.close();
});

await tell('texts are texts', async () => {
  for (const path of ['/console', '/console/resources/default', `/console?search=${encodeURIComponent(facts.hostile)}`,
    `/console/signin?to=${encodeURIComponent('javascript:alert(3)')}`]) {
    const v = await visit();
    const dialogs = [];
    v.page.on('dialog', (dialog) => { dialogs.push(dialog.message()); dialog.dismiss(); });
    await v.go(path);
    if (path === '/console/resources/default') {
      assert.ok((await v.page.locator('section[aria-labelledby="tags"]').textContent()).includes(facts.hostile));
    }
    assert.equal(await v.page.locator('img[src="x"], a[href^="javascript:"]').count(), 0);
    assert.deepEqual(dialogs, []);
    await v.end();
  }
});

await tell('no redirection leads to another site', async () => {
  for (const to of [evil, '//evil.example', '/\\evil.example', '/console/../../evil.example', '/console//evil.example', '\t//evil.example']) {
    const v = await visit();
    await v.go('/console');
    const form = v.page.locator('form[action="/console/language"]').first();
    await form.locator('input[name=to]').evaluate((input, value) => { input.value = value; }, to);
    await form.locator('button').click();
    await v.page.waitForLoadState();
    assert.equal(new URL(v.page.url()).origin, base);
    await v.end();
  }
});

await tell('a script that got into a page would not run', async () => {
  const v = await visit();
  await v.go('/console');
  const ran = await v.page.evaluate(async () => {
    const blocked = new Promise((resolve) => document.addEventListener('securitypolicyviolation', (e) => resolve(e.effectiveDirective)));
    document.body.append(Object.assign(document.createElement('script'), { textContent: 'globalThis.ran = true' }));
    return [await blocked, globalThis.ran ?? false];
  });
  assert.deepEqual(ran, ['script-src-elem', false]);
  await v.context.close();
});

await tell('a session that was ended elsewhere is of no use', async () => {
  const v = await visit({ own: true, expect: [401] });
  const cookies = await v.context.cookies();
  const session = cookies.find((c) => c.name === '__Host-visage');
  assert.ok(session.httpOnly && session.secure && session.sameSite === 'Strict');
  await v.go('/console');
  await v.page.locator('form[action="/console/signout"] button').click();
  await v.page.waitForURL(/\/console\/signin/);
  const thief = await (await browser()).newContext({ ignoreHTTPSErrors: true });
  await thief.addCookies([session]);
  const page = await thief.newPage();
  assert.equal((await page.goto(`${base}/console`)).status(), 401);
  await thief.close();
  await v.end();
});

await finish();
