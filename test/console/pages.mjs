// Every page of the console: judged by axe and Lighthouse, and photographed. In a path, {name} stands for the fact of that
// name that the Go test made. open: for visitors who are not signed in. as: the fact with the object id of who sees it, if
// it is not the operator. status: if it is not 200. then: what leads from there to the page, in a browser.
import path from 'node:path';
import { facts } from './lib.mjs';

// tried sends photos to try the service on, and waits for the answer.
function tried(...photos) {
  return async (page) => {
    for (const [i, photo] of photos.entries()) await page.locator('input[type=file]').nth(i).setInputFiles(path.join(facts.dir, `${photo}.png`));
    await page.locator('main form button.primary').click();
    await page.locator('.photo img').nth(photos.length - 1).waitFor();
  };
}

const list = [
  { name: 'signin', path: '/console/signin', open: true },
  { name: 'signin-spent', path: '/console/signin/spent', open: true, status: 401 },
  { name: 'home', path: '/console' },
  { name: 'overview', path: '/console/resources/{account}' },
  { name: 'keys', path: '/console/resources/{account}/keys' },
  { name: 'create', path: '/console/create' },
  { name: 'delete', path: '/console/resources/{account}/delete' },
  { name: 'deleted', path: '/console/deleted' },
  { name: 'purge', path: '/console/deleted/{gone}/purge' },
  { name: 'requests', path: '/console/requests' },
  { name: 'request', path: '/console/requests/{request}' },
  { name: 'encryption', path: '/console/resources/{account}/encryption' },
  { name: 'encryption-service', path: '/console/resources/warehouse/encryption' },
  { name: 'encryption-revoked', path: '/console/resources/archive/encryption' },
  { name: 'encryption-locked', path: '/console/resources/branch/encryption' },
  { name: 'encryption-degraded', path: '/console/resources/canteen/encryption' },
  { name: 'encryption-begin', path: '/console/resources/depot/encryption' },
  { name: 'encryption-choose', path: '/console/resources/{account}/encryption/choose' },
  { name: 'encryption-wrong', path: '/console/resources/{account}/encryption/choose?type=customer&how=uri&uri=https%3A%2F%2Fsafe%2Fsecrets%2Fx', status: 422 },
  { name: 'encryption-key', path: '/console/resources/{account}/encryption/key?vault={vault}&name={key}&version={version}' },
  { name: 'encryption-unmet', path: '/console/resources/{account}/encryption/key?vault={vault}&name=none' },
  { name: 'encryption-vault', path: '/console/resources/{account}/encryption/vault' },
  { name: 'encryption-vault-key', path: '/console/resources/{account}/encryption/vault?vault={vault}' },
  { name: 'encryption-rehearsal', path: '/console/resources/{account}/encryption/rehearsal' },
  { name: 'encryption-new', path: '/console/resources/{account}/encryption/new' },
  { name: 'encryption-return', path: '/console/resources/{account}/encryption/service' },
  { name: 'encryption-lock', path: '/console/resources/{account}/encryption/lock' },
  { name: 'encryption-policy', path: '/console/resources/{account}/encryption/policy' },
  { name: 'encryption-store-add', path: '/console/resources/{account}/encryption/store' },
  { name: 'encryption-store-remove', path: '/console/resources/{account}/encryption/store/remove?name=none' },
  { name: 'encryption-store-promote', path: '/console/resources/{account}/encryption/store/promote' },
  { name: 'identity', path: '/console/resources/{account}/identity' },
  { name: 'identity-off', path: '/console/resources/{account}/identity/off' },
  { name: 'access', path: '/console/access' },
  { name: 'access-person', path: '/console/access/people/{human}' },
  { name: 'access-person-delete', path: '/console/access/people/{human}/delete' },
  { name: 'access-applications', path: '/console/access/applications' },
  { name: 'access-application', path: '/console/access/applications/{application}' },
  { name: 'access-application-delete', path: '/console/access/applications/{application}/delete' },
  { name: 'access-roles', path: '/console/access/roles' },
  { name: 'access-group', path: '/console/access/group' },
  { name: 'access-sessions', path: '/console/access/sessions' },
  { name: 'access-issuers', path: '/console/access/issuers' },
  { name: 'account', path: '/console/account' },
  { name: 'newpasskey', path: '/console/account/newpasskey', as: 'human' },
  { name: 'account-person', path: '/console/account', as: 'human' },
  { name: 'job', path: '/console/jobs/{job}' },
  { name: 'job-photos', path: '/console/jobs/{photos}' },
  { name: 'resource-access', path: '/console/resources/{account}/access' },
  { name: 'vault-access', path: '/console/vaults/{vault}/access' },
  { name: 'stores', path: '/console/stores' },
  { name: 'store', path: '/console/stores/{store}' },
  { name: 'store-new', path: '/console/stores/-/new/hashivault' },
  { name: 'store-new-kmip', path: '/console/stores/-/new/kmip' },
  { name: 'store-change', path: '/console/stores/{store}/change' },
  { name: 'store-remove', path: '/console/stores/{store}/remove' },
  { name: 'vaults', path: '/console/vaults' },
  { name: 'vault-new', path: '/console/vaults/-/new' },
  { name: 'vaults-deleted', path: '/console/vaults/-/deleted' },
  { name: 'vault-purge', path: '/console/vaults/-/deleted/{lost}/purge' },
  { name: 'vault', path: '/console/vaults/{vault}' },
  { name: 'vault-protect', path: '/console/vaults/{vault}/purgeprotection' },
  { name: 'vault-model', path: '/console/vaults/{vault}/model' },
  { name: 'vault-delete', path: '/console/vaults/{vault}/delete' },
  { name: 'vault-policies', path: '/console/vaults/{vault}/policies' },
  { name: 'vault-policy', path: '/console/vaults/{vault}/policies/edit' },
  { name: 'vault-policy-remove', path: '/console/vaults/{vault}/policies/remove?object={holder}' },
  { name: 'vault-network', path: '/console/vaults/{vault}/network' },
  { name: 'vaultkeys', path: '/console/vaults/{vault}/keys' },
  { name: 'vaultkey-new', path: '/console/vaults/{vault}/newkey' },
  { name: 'vaultkey-import', path: '/console/vaults/{vault}/importkey' },
  { name: 'vaultkey-byok', path: '/console/vaults/{vault}/importbyok' },
  { name: 'vaultkey-exchange', path: '/console/vaults/{vault}/keys/exchange' },
  { name: 'vaultkey-restore', path: '/console/vaults/{vault}/restorekey' },
  { name: 'vaultkey', path: '/console/vaults/{vault}/keys/{key}' },
  { name: 'vaultkey-use', path: '/console/vaults/{vault}/keys/{key}/use' },
  { name: 'vaultkey-policy', path: '/console/vaults/{vault}/keys/{key}/rotationpolicy' },
  { name: 'vaultkey-delete', path: '/console/vaults/{vault}/keys/{key}/delete' },
  { name: 'vaultkey-version', path: '/console/vaults/{vault}/keys/{key}/{version}' },
  { name: 'vaultkey-disable', path: '/console/vaults/{vault}/keys/{key}/{version}/disable' },
  { name: 'vaultkeys-deleted', path: '/console/vaults/{vault}/deletedkeys' },
  { name: 'vaultkey-purge', path: '/console/vaults/{vault}/deletedkeys/{old}/purge' },
  { name: 'metrics-resource', path: '/console/resources/{account}/metrics?span=24h' },
  { name: 'metrics', path: '/console/metrics' },
  { name: 'operations', path: '/console/operations' },
  { name: 'replicas', path: '/console/operations/replicas' },
  { name: 'rootkey', path: '/console/operations/rootkey' },
  { name: 'rootkey-add', path: '/console/operations/rootkey/add' },
  { name: 'rootkey-remove', path: '/console/operations/rootkey/remove?protector=file' },
  { name: 'rootkey-rotate', path: '/console/operations/rootkey/rotate' },
  { name: 'audit', path: '/console/audit' },
  { name: 'audit-event', path: '/console/audit/events/1' },
  { name: 'faces', path: '/console/resources/{account}/people' },
  { name: 'faces-empty', path: '/console/resources/{account}/people?kind=largefacelists' },
  { name: 'faces-new', path: '/console/resources/{account}/people/new' },
  { name: 'faces-group', path: '/console/resources/{account}/people/persongroups/{group}' },
  { name: 'faces-search', path: '/console/resources/{account}/people/persongroups/{group}?search=ada' },
  { name: 'faces-list', path: '/console/resources/{account}/people/facelists/{list}' },
  { name: 'faces-edit', path: '/console/resources/{account}/people/persongroups/{group}/edit' },
  { name: 'faces-photos', path: '/console/resources/{account}/people/persongroups/{group}/photos' },
  { name: 'faces-erase', path: '/console/resources/{account}/people/persongroups/{group}/erase' },
  { name: 'faces-erase-listed', path: '/console/resources/{account}/people/facelists/{list}/faces/{listed}/erase' },
  { name: 'faces-person-new', path: '/console/resources/{account}/people/persongroups/{group}/persons' },
  { name: 'faces-person', path: '/console/resources/{account}/people/persongroups/{group}/persons/{person}' },
  { name: 'faces-person-edit', path: '/console/resources/{account}/people/persongroups/{group}/persons/{person}/edit' },
  { name: 'faces-person-photos', path: '/console/resources/{account}/people/persongroups/{group}/persons/{person}/photos' },
  { name: 'faces-person-erase', path: '/console/resources/{account}/people/persongroups/{group}/persons/{person}/erase' },
  { name: 'faces-face-erase', path: '/console/resources/{account}/people/persongroups/{group}/persons/{person}/faces/{face}/erase' },
  { name: 'tryit', path: '/console/resources/{account}/tryit' },
  { name: 'tryit-compare', path: '/console/resources/{account}/tryit/compare' },
  { name: 'tryit-identify', path: '/console/resources/{account}/tryit/identify?in=persongroups%2Fstaff' },
  { name: 'tryit-similar', path: '/console/resources/{account}/tryit/similar' },
  { name: 'tryit-answer', path: '/console/resources/{account}/tryit', then: tried('both') },
  { name: 'tryit-compare-answer', path: '/console/resources/{account}/tryit/compare', then: tried('ada', 'both') },
  { name: 'tryit-identify-answer', path: '/console/resources/{account}/tryit/identify?in=persongroups%2Fstaff', then: tried('both') },
  { name: 'keeping', path: '/console/resources/{account}/keeping' },
  { name: 'keeping-person', path: '/console/resources/{account}/keeping?of=persongroups%2Fstaff' },
  { name: 'receipt', path: '/console/resources/{account}/receipts/{receipt}' },
  { name: 'unknown', path: '/console/nothing-here', status: 404 },
];

export const pages = list
  .filter((page) => (process.env.CONSOLE_ONLY ?? '').split(',').some((part) => page.name.includes(part)))
  .map((page) => ({ status: 200, principal: page.open ? null : page.as ? facts[page.as] : '', ...page, path: page.path.replace(/\{(\w+)\}/g, (_, name) => {
    if (!facts[name]) throw new Error(`pages.mjs: the Go test makes no fact ${name}, for ${page.path}`);
    return encodeURIComponent(facts[name]);
  }) }));

// visitors are those who see the pages, as visit() wants to know them.
export const visitors = [...new Set(pages.map((page) => page.principal))];

// refusals are the statuses that pages have on purpose.
export const refusals = [...new Set(pages.map((page) => page.status).filter((status) => status >= 400))];
