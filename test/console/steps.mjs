// What walks through forms have in common: pressing buttons and waiting for the page that answers, reading the check of a
// key, asking the test for what no browser can do.
import { assert, base } from './lib.mjs';

// act has the Go test do something, and returns what it answers.
export async function act(name) {
  const answer = await fetch(`${process.env.CONSOLE_DOOR}/acts/${name}`, { method: 'POST' });
  if (!answer.ok) throw new Error(`act ${name}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

// hands are what a person does on a page.
export function hands(page) {
  const self = {
    page,
    // go opens a path, which must be there.
    async go(path) {
      const answer = await page.goto(base + path);
      assert.equal(answer.status(), 200, `${path}: ${await page.locator('main').innerText()}`);
    },
    // press clicks on what leads to a page, and waits for that page.
    async press(what) {
      try {
        await Promise.all([page.waitForEvent('framenavigated'), what.click()]);
      } catch (err) {
        throw new Error(`nothing follows on ${what} at ${page.url()}: ${await page.locator('main').innerText()}`, { cause: err });
      }
      await page.waitForLoadState();
    },
    // button and link are found by what a person reads on them.
    button: (name, within = page) => within.getByRole('button', { name, exact: true }).first(),
    link: (name, within = page) => within.getByRole('link', { name, exact: true }).first(),
    // send presses a button and expects a sentence about what was done. A page without scripts loads itself anew, without
    // the sentence: it must not until that was read. It is stopped, since nothing can be read while a page waits to load.
    async send(name, said) {
      let sent = false;
      let stopped = false;
      const stop = async (route) => {
        const asked = route.request();
        if (sent && asked.isNavigationRequest() && asked.method() === 'GET') {
          stopped = true;
          await route.abort('aborted');
          return;
        }
        sent ||= asked.method() === 'POST';
        await route.continue();
      };
      await page.route(`${base}/**`, stop);
      try {
        await self.press(self.button(name));
        await self.says(said);
      } finally {
        await page.unroute(`${base}/**`, stop);
      }
      if (stopped) await page.reload();
    },
    async follow(name) {
      await self.press(self.link(name));
    },
    // says expects a sentence among the notices of the page.
    async says(sentence) {
      try {
        await page.locator('.notices').getByText(sentence).first().waitFor();
      } catch (err) {
        throw new Error(`the page does not say ${sentence}: ${await page.locator('main').innerText()}`, { cause: err });
      }
    },
    fill: (label, value) => page.getByLabel(label).first().fill(value),
    // state waits until the badge of the resource's key says something: the page asks again by itself.
    async state(text) {
      try {
        await page.locator('main .badge').filter({ hasText: text }).first().waitFor();
      } catch (err) {
        throw new Error(`the page does not say ${text}: ${await page.locator('main').innerText()}`, { cause: err });
      }
    },
    // choose pastes the identifier of a key into the page of the resource's encryption.
    async choose(resource, id) {
      const at = `/console/resources/${resource}/encryption`;
      await self.go(at);
      if (await page.locator('#do-choose').count() > 0) await self.go(`${at}/choose`);
      await page.locator('[name=type][value=customer]').check();
      await page.locator('[name=how][value=uri]').check();
      await page.locator('[name=uri]').fill(id);
      await self.press(page.locator(`form[action="${at}/choose"] button`));
    },
    // unmet lists what the check of a key finds missing, by the sentence of each precondition.
    unmet: () => page.locator('.checks > li.bad > div > p:first-child').evaluateAll(
      (all) => all.map((p) => p.firstChild.textContent.trim())),
    // saves reports whether the page offers to save the key.
    saves: async (resource) => (await page.locator(`form[action="/console/resources/${resource}/encryption"]`).count()) > 0,
  };
  return self;
}
