// Takes the pictures of the documents, in both themes, into the folder that is its argument: the top of some pages.
import path from 'node:path';
import { finish, visit } from './lib.mjs';
import { pages } from './pages.mjs';

const heights = { home: 1000, encryption: 640, 'encryption-revoked': 640, 'encryption-unmet': 720 };

for (const theme of ['light', 'dark']) {
  for (const [name, height] of Object.entries(heights)) {
    const v = await visit({ theme, width: 1200, height });
    await v.go(pages.find((page) => page.name === name).path);
    await v.page.screenshot({ path: path.join(process.argv[2], `${name}-${theme}.png`) });
    await v.end();
  }
}
await finish();
