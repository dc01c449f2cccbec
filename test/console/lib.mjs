// What the walks share: the browser that the Go test started, visits in a language and a theme, with or without scripts,
// and what no page may do, whatever it is: ask another origin, violate its own policy, write errors to the console.
import assert from 'node:assert/strict';
import { chromium } from 'playwright-core';

const need = (name) => {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: this script is run by the Go test beside it`);
  return value;
};

export const base = need('CONSOLE_URL');
export const port = need('CONSOLE_BROWSER');
const patience = Number(need('CONSOLE_PATIENCE')); // ms, from the start of the script
export const facts = JSON.parse(need('CONSOLE_FACTS'));
export { assert };

const longest = 4 * 60_000; // ms of one wait: a busy machine takes long, but what has not come by then never comes

let connected;

// browser connects to the running Chromium, once: walks side by side share the connection.
export async function browser() {
  connected ??= chromium.connectOverCDP(`http://127.0.0.1:${port}`);
  return connected;
}

// signInAddress returns a one-time address: of the operator, or of a principal by its object id.
export async function signInAddress(principal = '') {
  const answer = await fetch(`${need('CONSOLE_DOOR')}/?principal=${encodeURIComponent(principal)}`);
  const text = await answer.text();
  if (!answer.ok) throw new Error(`no address to sign in: ${text}`);
  return text;
}

const fresh = 3 * 60_000; // ms: a proof is asked for again after five minutes

const sessions = new Map(); // cookies, and when they were given, by principal: a session is opened once, unless a walk asks for its own

// visit opens a page of a browser of its own. By default it is signed in as the operator, in English, in the light theme,
// with scripts.
//
//	principal  object id of who signs in; null: nobody
//	own        a session of its own, which the walk may end
//	expect     statuses of 400 and above that the walk wants to see
//	allow      other origins that the browser may go to
export async function visit(options = {}) {
  const { lang = 'en', theme = 'light', js = true, width = 1280, height = 900, principal = '', own = false, expect = [], allow = [] } = options;
  const context = await (await browser()).newContext({
    ignoreHTTPSErrors: true, locale: lang === 'fr' ? 'fr-FR' : 'en-GB', colorScheme: theme, javaScriptEnabled: js,
    viewport: { width, height }, reducedMotion: 'reduce',
  });
  const problems = [];
  context.on('request', (request) => {
    const url = new URL(request.url());
    if (!['data:', 'blob:'].includes(url.protocol) && url.origin !== base && !allow.includes(url.origin)) problems.push(`asked another origin: ${url.origin}`);
  });
  context.on('response', (response) => {
    if (response.status() >= 400 && !expect.includes(response.status())) problems.push(`${response.status()} ${response.url()}`);
  });
  context.on('console', (message) => {
    // A failed load is in the list already, by its status.
    if (['error', 'warning'].includes(message.type()) && !message.text().startsWith('Failed to load resource')) {
      problems.push(`console: ${message.text()}`);
    }
  });
  context.on('weberror', (error) => problems.push(`error: ${error.error()}`));
  const page = await context.newPage();
  page.setDefaultTimeout(Math.max(1, Math.min(longest, patience - performance.now())));
  let since;
  async function signIn() {
    const known = own ? undefined : sessions.get(principal);
    if (known && Date.now() - known.since < fresh) {
      await context.addCookies(known.cookies);
      since = known.since;
      return;
    }
    await page.goto(await signInAddress(principal));
    await page.locator('form[action^="/console/signin/"] button').click();
    await page.waitForURL(`${base}/console`);
    since = Date.now();
    if (!own) sessions.set(principal, { since, cookies: (await context.cookies()).filter((c) => c.name === '__Host-visage') });
  }
  if (principal !== null) await signIn();
  return {
    context, page, problems,
    // go opens a path, and returns the status.
    async go(path) {
      const answer = await page.goto(base + path);
      return answer.status();
    },
    // renew signs in again if what cannot be undone would ask for it.
    async renew() {
      if (principal !== null && Date.now() - since >= fresh) await signIn();
    },
    // end closes the browser, and fails if a page did what none may.
    async end() {
      await context.close();
      assert.deepEqual(problems, [], 'what no page may do');
    },
  };
}

// tell runs one named step; the name of the one that fails is the first thing to know.
export async function tell(name, step) {
  const begin = performance.now();
  try {
    const result = await step();
    console.log(`ok   ${name} (${Math.round(performance.now() - begin)} ms)`);
    return result;
  } catch (err) {
    console.error(`FAIL ${name}`);
    for (const context of (await connected)?.contexts() ?? []) {
      for (const page of context.pages()) {
        const text = await page.innerText('body', { timeout: 5000 }).catch((e) => `(unreadable: ${e.message})`);
        console.error(`     a page is at ${page.url()}: ${text.slice(0, 300).replaceAll('\n', ' | ')}`);
      }
    }
    throw err;
  }
}

// finish ends the script: the connection to the browser would keep it alive.
export async function finish() {
  await (await connected)?.close();
}

// spread calls work for every item, a few at a time.
export async function spread(items, atOnce, work) {
  const queue = [...items];
  await Promise.all(Array.from({ length: atOnce }, async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  }));
}
