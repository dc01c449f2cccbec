// Runs axe over every page, in both themes and both languages, at two widths: no violation is allowed, and no page may be
// wider than the window. The looks take turns, each page has one; with the argument "all" every page has all four.
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { assert, finish, spread, tell, visit } from './lib.mjs';
import { pages, refusals, visitors } from './pages.mjs';

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const all = process.argv[2] === 'all';
const looks = [{ theme: 'light', lang: 'en', width: 1280 }, { theme: 'dark', lang: 'fr', width: 320 }];
if (all) {
  looks.push({ theme: 'light', lang: 'fr', width: 320 }, { theme: 'dark', lang: 'en', width: 1280 });
}

let failed = false;
await (await visit()).end(); // signs in once for all
await spread(visitors.flatMap((principal) => looks.map((look) => ({ principal, ...look }))), 2, async ({ principal, ...look }) => {
  const v = await visit({ ...look, principal, expect: refusals });
  const turn = looks.findIndex((l) => l.lang === look.lang && l.theme === look.theme);
  for (const [i, page] of pages.filter((p) => p.principal === principal).entries()) {
    if (!all && !process.env.CONSOLE_ONLY && i % looks.length !== turn) continue;
    await tell(`${page.name} ${look.lang} ${look.theme} ${look.width}`, async () => {
      await v.renew();
      assert.equal(await v.go(page.path), page.status);
      await page.then?.(v.page);
      await v.page.evaluate(axe);
      const { violations, wide } = await v.page.evaluate(async () => ({
        violations: (await globalThis.axe.run(document, {
          resultTypes: ['violations'],
          runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
        })).violations.flatMap((v) => v.nodes.map((n) => `${v.id}: ${n.target} ${n.html.slice(0, 200)} ${n.failureSummary}`)),
        wide: document.documentElement.scrollWidth - document.documentElement.clientWidth,
      }));
      assert.deepEqual(violations, []);
      assert.ok(wide <= 0, `the page is ${wide} px wider than the window`);
    }).catch((err) => { failed = true; console.error(err.message); });
  }
  await v.end();
});
await finish();
if (failed) process.exitCode = 1;
