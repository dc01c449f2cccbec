// From the sign-in to "Customer-managed key: active" with a new vault and a new key: by the mouse in at most twelve clicks,
// and by the keyboard alone, with the focus in sight at every step.
import { assert, base, finish, signInAddress, tell, visit } from './lib.mjs';

const most = 12;
const active = 'Customer-managed key: active';
const at = (name) => `/console/resources/${name}/encryption`;

// signedOut opens the page of a one-time address.
async function signedOut() {
  const v = await visit({ principal: null });
  await v.page.goto(await signInAddress());
  return v;
}

await tell('by the mouse', async () => {
  const v = await signedOut();
  let clicks = 0;
  const click = async (what) => {
    clicks++;
    await what.click();
  };
  const { page } = v;
  await click(page.locator('form[action^="/console/signin/"] button'));
  await click(page.getByRole('link', { name: 'mouse', exact: true }));
  await click(page.getByRole('link', { name: 'Encryption', exact: true }));
  await click(page.getByLabel('Customer-managed keys'));
  await click(page.getByLabel('Create a vault and a key for this resource'));
  await click(page.getByRole('button', { name: 'Continue' }));
  await page.waitForURL(`${base}${at('mouse')}/new`);
  await click(page.getByRole('button', { name: 'Create' }));
  await click(page.getByRole('button', { name: 'Save' }));
  await page.locator('.badge').filter({ hasText: active }).first().waitFor();
  console.log(`${clicks} clicks`);
  assert.ok(clicks <= most, `${clicks} clicks, ${most} are allowed`);
  await v.end();
});

await tell('by the keyboard alone', async () => {
  const v = await signedOut();
  const { page } = v;
  let keys = 0;
  const press = async (key) => {
    keys++;
    await page.keyboard.press(key);
  };

  // focused describes what has the focus, and fails unless it can be seen that it has.
  const focused = async () => {
    const now = await page.evaluate(() => {
      const e = document.activeElement;
      const style = getComputedStyle(e);
      const box = e.getBoundingClientRect();
      const label = e.labels?.[0]?.innerText ?? e.getAttribute('aria-label') ?? e.innerText ?? '';
      return {
        what: e.tagName, name: e.getAttribute('name'), value: e.value, label: label.trim().split('\n')[0],
        marked: e.matches(':focus-visible') && style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2,
        seen: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
      };
    });
    if (now.what !== 'BODY') {
      assert.ok(now.marked, `the focus cannot be seen: ${JSON.stringify(now)}`);
      assert.ok(now.seen, `what has the focus is out of sight: ${JSON.stringify(now)}`);
    }
    return now;
  };

  // reach presses Tab until what has the focus is what is sought.
  const reach = async (sought, described) => {
    const passed = [];
    for (let i = 0; i < 60; i++) {
      await press('Tab');
      const now = await focused();
      if (sought(now)) return;
      passed.push(now.label);
    }
    assert.fail(`the keyboard does not reach ${described}, but ${passed.join(' | ')}`);
  };
  const enter = async (label, key = 'Enter') => {
    await reach((now) => now.label === label, label);
    const [answer] = await Promise.all([page.waitForEvent('framenavigated'), press(key)]);
    await page.waitForLoadState();
    return answer;
  };

  await enter('Sign in');
  await enter('keyboard');
  await enter('Encryption');
  await reach((now) => now.name === 'type', 'the type of encryption');
  await press('ArrowDown');
  assert.equal((await focused()).value, 'customer');
  await reach((now) => now.name === 'how', 'how the key is given');
  while ((await focused()).value !== 'new') await press('ArrowDown');
  await enter('Continue');
  await enter('Create', 'Space');
  await enter('Save');
  await page.locator('.badge').filter({ hasText: active }).first().waitFor();
  console.log(`${keys} keys`);
  await v.end();
});

await finish();
