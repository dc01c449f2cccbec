// Takes pictures of every page in both languages, both themes and three widths, into the folder that is its argument.
import path from 'node:path';
import { finish, spread, visit } from './lib.mjs';
import { pages, refusals, visitors } from './pages.mjs';

const folder = process.argv[2];
const looks = [];
for (const principal of visitors) {
  for (const lang of ['en', 'fr']) {
    for (const theme of ['light', 'dark']) {
      for (const width of [360, 1280, 2560]) looks.push({ principal, lang, theme, width });
    }
  }
}
await (await visit()).end(); // signs in once for all
await spread(looks, 2, async ({ principal, lang, theme, width }) => {
  const v = await visit({ lang, theme, width, height: width === 360 ? 740 : 900, principal, expect: refusals });
  for (const page of pages.filter((p) => p.principal === principal)) {
    await v.renew();
    await v.go(page.path);
    await page.then?.(v.page);
    await v.page.screenshot({ path: path.join(folder, `${page.name}-${lang}-${theme}-${width}.png`), fullPage: true });
  }
  await v.end();
});
await finish();
console.log(`${looks.length / visitors.length * pages.length} pictures`);
