// Takes pictures of every page in both languages, both themes and three widths, into the folder that is its argument.
import path from 'node:path';
import { finish, spread, visit } from './lib.mjs';
import { pages, refusals } from './pages.mjs';

const folder = process.argv[2];
const looks = [];
for (const open of [false, true]) {
  for (const lang of ['en', 'fr']) {
    for (const theme of ['light', 'dark']) {
      for (const width of [360, 1280, 2560]) looks.push({ open, lang, theme, width });
    }
  }
}
await (await visit()).end(); // signs in once for all
await spread(looks, 2, async ({ open, lang, theme, width }) => {
  const v = await visit({ lang, theme, width, height: width === 360 ? 740 : 900, principal: open ? null : '', expect: refusals });
  for (const page of pages.filter((p) => Boolean(p.open) === open)) {
    await v.go(page.path);
    await v.page.screenshot({ path: path.join(folder, `${page.name}-${lang}-${theme}-${width}.png`), fullPage: true });
  }
  await v.end();
});
await finish();
console.log(`${looks.length / 2 * pages.length} pictures`);
