// The acceptance walk: everything that the article about customer-managed keys tells, in its order, by the pages of the
// console in French. Amélie may change the resource and not the vault; the operator may do both.
import { assert, base, facts, finish, tell, visit } from './lib.mjs';
import { act, hands } from './steps.mjs';

const at = '/console/resources/accueil';
const v = await visit({ lang: 'fr', own: true, expect: [403, 409, 422] });
const h = hands(v.page);
const beside = await visit({ lang: 'fr' }); // a second window, which stays at the page of the key
const watching = hands(beside.page);
const amelie = await visit({ lang: 'fr', principal: facts.amelie, own: true, expect: [403] });
const a = hands(amelie.page);

const service = 'Clé gérée par le service';
const active = 'Clé gérée par le client : active';
const revoked = 'Clé gérée par le client : accès révoqué';
const labels = {
  purge: 'La protection contre le vidage est activée dans le coffre',
  type: 'La clé est de type RSA à 2048 bits',
  get: 'L’identité peut lire la clé (get)',
  wrap: 'L’identité peut encapsuler avec la clé (wrapKey)',
  unwrap: 'L’identité peut désencapsuler avec la clé (unwrapKey)',
};
const open = async () => assert.equal(await act('identify'), 'known', 'the data is open');
const closed = async () => assert.equal(await act('identify'), 'EncryptionKeyRevoked', 'the data is closed');
const sealed = async () => assert.deepEqual(await act('search'), [], 'files that show what is in the resource');

await tell('ask for access, and approve', async () => {
  await h.go('/console');
  await h.follow('Demandes d’accès');
  await h.fill(/^Nom/, 'accueil');
  await h.fill(/^Région/, 'francecentral');
  await h.fill(/^Contact/, 'amelie@contoso.example');
  await h.fill(/^Motif/, 'Ouvrir les portes de deux bureaux.');
  await h.send('Envoyer la demande', 'La demande est envoyée.');
  await h.state('En attente de décision');
  await h.send('Approuver', 'La demande est approuvée');
  await h.state('Approuvée : une place est libre');
});

await tell('create a resource of tier E0', async () => {
  await h.follow('Créer une ressource');
  await h.fill(/^Nom/, 'accueil');
  await h.fill(/^Région/, 'francecentral');
  await h.page.locator('[name=tier][value=E0]').check();
  await h.send('Créer la ressource', 'La ressource accueil a été créée.');
  await watching.go(`${at}/encryption`);
  await watching.state(service);
  await act('enrol');
  await open();
  await sealed();
});

await tell('create a vault without purge protection', async () => {
  await h.go('/console/vaults');
  await h.follow('Créer un coffre de clés');
  await h.fill(/^Nom/, 'coffre');
  await h.fill(/^Région/, 'francecentral');
  await h.page.locator('[name=model][value=policies]').check();
  await h.page.locator('[name=protect]').uncheck();
  await h.send('Créer un coffre de clés', 'Le coffre de clés coffre est créé.');
  await h.state('La protection contre le vidage est désactivée');
});

const keys = {};
await tell('generate keys of three kinds', async () => {
  for (const [name, kind] of [['courbe', 'EC P-256'], ['grande', 'RSA 3072'], ['visages', 'RSA 2048']]) {
    await h.go('/console/vaults/coffre/newkey');
    await h.fill(/^Nom/, name);
    await h.page.getByLabel('Type et taille').selectOption(kind);
    await h.send('Générer une clé', `La clé ${name} a une nouvelle version.`);
    const ids = await h.page.locator('[data-copy*="/keys/"]').evaluateAll((all) => all.map((b) => b.dataset.copy));
    keys[name] = ids.find((id) => /\/keys\/[^/]+\/[0-9a-f]{32}$/.test(id));
    assert.ok(keys[name], `an identifier with a version: ${ids}`);
  }
});

await tell('a vault without purge protection is refused, until the button turns it on', async () => {
  await h.choose('accueil', keys.visages);
  assert.deepEqual(await h.unmet(), [labels.purge]);
  assert.equal(await h.saves('accueil'), false);
  await h.send('Activer définitivement la protection contre le vidage', 'La protection contre le vidage est activée.');
  assert.deepEqual(await h.unmet(), []);
  await h.go('/console/vaults/coffre');
  await h.state('La protection contre le vidage est activée');
});

await tell('keys of other kinds are refused', async () => {
  for (const name of ['courbe', 'grande']) {
    await h.choose('accueil', keys[name]);
    assert.equal((await h.unmet())[0], labels.type);
    assert.match(await h.page.locator('.checks > li.bad').first().innerText(), /Ce type de clé n’est pas pris en charge\s: utilisez une clé RSA ou RSA-HSM de 2048\sbits\./);
    assert.equal(await h.saves('accueil'), false);
  }
});

let identity;
await tell('switch the identity on', async () => {
  await h.go(`${at}/identity`);
  await h.send('Activer l’identité', 'L’identité est activée.');
  identity = await h.page.locator('[data-copy]').first().getAttribute('data-copy');
});

await tell('without permissions, and with two of three, the key is refused', async () => {
  await a.choose('accueil', keys.visages);
  assert.deepEqual(await a.unmet(), [labels.get, labels.wrap, labels.unwrap]);
  assert.equal(await a.saves('accueil'), false);
  await h.go(`/console/vaults/coffre/policies/edit?object=${identity}&preset=resource`);
  await h.page.locator('[name=may-unwrapkey]').uncheck();
  await h.send('Enregistrer la stratégie d’accès', 'La stratégie d’accès est enregistrée.');
  await a.choose('accueil', keys.visages);
  assert.deepEqual(await a.unmet(), [labels.unwrap]);
  assert.equal(await a.saves('accueil'), false);
});

await tell('who may give the permission gives it by the button that saves the key', async () => {
  await h.choose('accueil', keys.visages);
  assert.deepEqual(await h.unmet(), []);
  assert.match(await h.page.locator('.checks > li').filter({ hasText: labels.unwrap }).innerText(), /fait lors de l’enregistrement/);
  await h.send('Enregistrer', 'La clé est acceptée.');
  await h.state(active);
  await watching.go(`${at}/encryption`);
  await watching.state(active);
  await h.go(`${at}/identity`);
  await h.page.getByText('get, wrapKey, unwrapKey').waitFor();
  await open();
  await sealed();
});

const key = '/console/vaults/coffre/keys/visages';
const versionOf = (id) => id.slice(id.lastIndexOf('/') + 1);

await tell('rotate: the resource keeps its version until it is told', async () => {
  await h.go(key);
  await h.send('Opérer une rotation maintenant', 'La nouvelle version est');
  const ids = await h.page.locator('[data-copy*="/keys/"]').evaluateAll((all) => all.map((b) => b.dataset.copy));
  keys.next = ids.find((id) => /\/keys\/[^/]+\/[0-9a-f]{32}$/.test(id));
  assert.notEqual(keys.next, keys.visages);
  await h.go(`${at}/encryption`);
  assert.equal(await h.page.locator('dl.facts').first().getByText(versionOf(keys.visages), { exact: true }).count(), 1);
  await h.follow('Nouvelle version de la clé');
  await h.page.locator('summary').filter({ hasText: 'Choisir une autre version' }).click();
  await h.page.locator('[name=version]').last().selectOption(versionOf(keys.next));
  await h.press(h.button('Utiliser cette version'));
  await h.send('Enregistrer', 'La clé est acceptée.');
  await h.page.locator('dl.facts').first().getByText(versionOf(keys.next), { exact: true }).waitFor();
  await h.state(active);
});

await tell('the version before can be disabled', async () => {
  await h.go(`${key}/${versionOf(keys.visages)}`);
  await h.follow('Désactiver');
  await h.send('Désactiver', 'La version est désactivée.');
  await open();
  await watching.state(active);
});

await tell('disable the key: closed; enable it: open', async () => {
  await h.go(`${key}/${versionOf(keys.next)}`);
  await h.follow('Désactiver');
  await h.page.locator('.alert.warn').getByText('accueil').waitFor();
  await h.send('Désactiver', 'La version est désactivée.');
  await watching.state(revoked);
  await closed();
  await h.send('Activer', 'La version est activée.');
  await watching.state(active);
  await open();
});

await tell('remove the access policy: closed; restore it: open', async () => {
  await h.go('/console/vaults/coffre/policies');
  await h.press(h.link('Retirer', h.page.locator('tr').filter({ hasText: identity })));
  await h.page.locator('.alert.warn').getByText('accueil').waitFor();
  await h.send('Retirer', 'La stratégie d’accès est retirée.');
  await watching.state(revoked);
  await closed();
  await h.go(`${at}/encryption`);
  await h.follow('Chercher la cause');
  await h.send('Rétablir l’accès', 'La clé est acceptée.');
  await watching.state(active);
  await open();
});

await tell('delete the key: closed; recover it: open', async () => {
  await h.go(key);
  await h.follow('Supprimer cette clé');
  await h.page.locator('.alert.warn').getByText('accueil').waitFor();
  await h.send('Supprimer cette clé', 'La clé visages est supprimée.');
  await watching.state(revoked);
  await closed();
  await h.send('Récupérer', 'La clé visages est récupérée');
  await watching.state(active);
  await open();
});

await tell('return to service-managed keys', async () => {
  await h.go(`${at}/encryption`);
  await h.follow('Revenir aux clés gérées par le service');
  await h.send('Revenir aux clés gérées par le service', 'Le retour aux clés gérées par le service est accepté.');
  await watching.state(service);
  await open();
});

await tell('purging is refused, the deleted key is not needed', async () => {
  await h.go(key);
  await h.follow('Supprimer cette clé');
  await h.send('Supprimer cette clé', 'La clé visages est supprimée.');
  assert.equal(await h.link('Vider').count(), 0);
  await v.go('/console/vaults/coffre/policies');
  await h.press(h.link('Modifier', h.page.locator('tr').filter({ hasText: 'create' })));
  await h.page.locator('[name=may-purge]').check();
  await h.send('Enregistrer la stratégie d’accès', 'La stratégie d’accès est enregistrée.');
  const purge = '/console/vaults/coffre/deletedkeys/visages/purge';
  await h.go(purge);
  await h.page.getByText('personne ne peut le faire avant').waitFor();
  assert.equal(await h.page.locator(`form[action="${purge}"]`).count(), 0);
  const token = await h.page.locator('form[action="/console/signout"] [name=token]').getAttribute('value');
  const answer = await v.context.request.post(base + purge, { form: { token }, headers: { Origin: base }, maxRedirects: 0 });
  assert.equal(answer.status(), 403);
  await open();
});

await tell('delete the resource, and recover it', async () => {
  await h.go(at);
  await h.follow('Supprimer cette ressource');
  await h.send('Supprimer la ressource', 'La ressource accueil est supprimée.');
  assert.notEqual(await act('identify'), 'known');
  await h.go('/console/deleted');
  await h.send('Récupérer', 'La ressource accueil est rétablie');
  await h.go(`${at}/encryption`);
  await h.state(service);
  await open();
  await sealed();
});

// entries reads a page of the audit log and those behind it, oldest entry first.
async function entries(path) {
  const all = [];
  await h.go(path);
  for (;;) {
    const rows = h.page.locator('table.list tbody tr');
    all.push(...await rows.evaluateAll((some) => some.map((row) => [...row.cells].slice(1, 4).map((cell) => cell.innerText.trim().replace(/\s+/g, ' ')).join(' – '))));
    if (await h.page.locator('.more a').count() === 0) return all.reverse();
    await h.press(h.page.locator('.more a'));
  }
}

// inOrder fails unless the steps are among the entries, one behind the other. A step of several entries has them in any
// order: a change of a vault and what its keys answer from then on are written at the same time.
function inOrder(all, steps) {
  let from = 0;
  for (const step of steps) {
    const at = [step].flat().map((start) => {
      const found = all.findIndex((entry, i) => i >= from && entry.startsWith(start));
      assert.ok(found >= 0, `the audit log lacks ${start} behind entry ${from} of\n${all.join('\n')}`);
      return found;
    });
    from = Math.max(...at) + 1;
  }
}

await tell('the audit log has every step', async () => {
  const closedAndOpened = ['Clés de la ressource effacées de la mémoire', 'Données verrouillées', 'Données rouvertes'];
  const vault = 'Opération effectuée dans le coffre de clés';
  inOrder(await entries('/console/audit?resource=accueil'), [
    'Ressource créée', 'Ressource modifiée', 'Clé de données encapsulée avec la clé gérée par le client', 'Clé gérée par le client activée – Annoncé',
    'Clé gérée par le client activée – Effectué', 'Nouvelle version de la clé gérée par le client adoptée', ...closedAndOpened, ...closedAndOpened, ...closedAndOpened,
    'Retour à la clé gérée par le service – Effectué', 'Ressource supprimée – Effectué', 'Ressource récupérée – Effectué',
  ]);
  inOrder(await entries('/console/audit'), [
    'Connexion à la console', 'Demande d’accès envoyée – Effectué', 'Demande d’accès approuvée – Effectué', 'Ressource créée',
    `${vault} (VaultPut) – Effectué – operator`, `${vault} (KeyCreate) – Effectué – operator`, `${vault} (VaultPatch)`,
    `${vault} (KeyGet) – Refusé AccessDenied – accueil`, 'Autorisations du coffre de clés modifiées',
    `${vault} (KeyUnwrap) – Refusé AccessDenied – accueil`, 'Autorisations du coffre de clés modifiées',
    `${vault} (KeyWrap) – Effectué – accueil`, `${vault} (KeyRotate)`, `${vault} (KeyUpdate)`,
    [`${vault} (KeyUpdate)`, `${vault} (KeyUnwrap) – Refusé KeyDisabled – accueil`], `${vault} (KeyUpdate)`,
    ['Autorisations du coffre de clés modifiées', `${vault} (KeyUnwrap) – Refusé AccessDenied – accueil`],
    'Autorisations du coffre de clés modifiées',
    [`${vault} (KeyDelete)`, `${vault} (KeyUnwrap) – Refusé KeyNotFound – accueil`],
    `${vault} (KeyRecover)`, 'Retour à la clé gérée par le service', `${vault} (KeyDelete)`,
    `${vault} (KeyPurge) – Refusé Forbidden – operator`, 'Ressource supprimée', 'Requête refusée', 'Ressource récupérée',
  ]);
});

await amelie.end();
await beside.end();
await v.end();
await finish();
