// The official management, identity and key vault clients, unmodified, as the people who look after a resource would use
// them: the whole life of a resource under a customer's key.
//
// Beside what cast.mjs takes from the environment: MANAGE_TENANT, MANAGE_SUBSCRIPTION, MANAGE_CLIENT and MANAGE_SECRET, as
// operator.json has them.
import { CognitiveServicesManagementClient } from '@azure/arm-cognitiveservices';
import { KeyVaultManagementClient } from '@azure/arm-keyvault';
import createFaceClient, { isUnexpected } from '@azure-rest/ai-vision-face';
import { AzureKeyCredential } from '@azure/core-auth';
import { ClientSecretCredential } from '@azure/identity';
import { KeyClient } from '@azure/keyvault-keys';
import { assert, bytes, cast, endpoint, tell, uuid } from './cast.mjs';

const { MANAGE_TENANT: tenant, MANAGE_SUBSCRIPTION: subscription, MANAGE_CLIENT: clientId, MANAGE_SECRET: secret } = process.env;
const group = 'default';
const location = 'West US 2';
const credential = new ClientSecretCredential(tenant, clientId, secret, { authorityHost: endpoint, disableInstanceDiscovery: true });
const accounts = new CognitiveServicesManagementClient(credential, subscription, { endpoint });
const vaults = new KeyVaultManagementClient(credential, subscription, { endpoint });

// refused insists on a status and a code as the client decodes them.
const refused = async (attempt, status, code) => {
  await assert.rejects(attempt, (err) => {
    assert.equal(err.statusCode, status, err.message);
    assert.equal(err.code, code, err.message);
    assert.ok(err.message.length > 0, 'a sentence for a person');
    return true;
  });
};

// until repeats what takes a moment.
const until = async (what, is) => {
  const end = Date.now() + 60_000;
  for (;;) {
    const got = await what();
    if (is(got)) return got;
    if (Date.now() > end) throw new Error(`waited in vain: ${JSON.stringify(got)}`);
    await new Promise((resolve) => { setTimeout(resolve, 50); });
  }
};

const get = () => accounts.accounts.get(group, 'vip');
const update = (change) => accounts.accounts.beginUpdateAndWait(group, 'vip', change, { updateIntervalInMs: 100 });
const keyVaultProperties = ({ name, properties }) => ({ keyName: name, keyVersion: properties.version, keyVaultUri: vaultUri });
const under = (key) => update({ properties: { encryption: { keySource: 'Microsoft.KeyVault', keyVaultProperties: keyVaultProperties(key) } } });

let vaultUri;
let principalId;
let own; // the resource's own host

await tell('create: E0 with a subdomain', async () => {
  await refused(accounts.accounts.beginCreateAndWait(group, 'vip', {
    kind: 'Face', location, sku: { name: 'E0' },
    properties: { encryption: { keySource: 'Microsoft.KeyVault', keyVaultProperties: { keyName: 'k', keyVersion: '', keyVaultUri: 'https://x/' } } },
  }), 400, 'CustomerManagedKeyNotSupportedAtCreation');
  const made = await accounts.accounts.beginCreateAndWait(group, 'vip', {
    kind: 'Face', location, sku: { name: 'E0' }, tags: { team: 'front' }, properties: { customSubDomainName: 'vip-faces' },
  });
  assert.equal(made.name, 'vip');
  assert.equal(made.properties.provisioningState, 'Succeeded');
  assert.equal(made.properties.customSubDomainName, 'vip-faces');
  assert.equal(made.properties.encryption, undefined);
  assert.equal(made.properties.endpoint, `${endpoint.replace('://', '://vip-faces.')}/`);
  own = made.properties.endpoint.replace(/\/$/, '');
  assert.ok(made.properties.dateCreated && made.etag && made.systemData.createdAt instanceof Date);
});

await tell('identity: system-assigned', async () => {
  const { identity } = await update({ identity: { type: 'SystemAssigned' } });
  assert.match(identity.principalId, uuid);
  assert.equal(identity.tenantId, tenant);
  principalId = identity.principalId;
});

const policies = (permissions) => [
  { tenantId: tenant, objectId: clientId, permissions: { keys: ['all', 'purge', 'rotate', 'getrotationpolicy', 'setrotationpolicy'] } },
  { tenantId: tenant, objectId: principalId, permissions: { keys: permissions } },
];
const needed = ['get', 'wrapKey', 'unwrapKey'];

await tell('vault: with purge protection', async () => {
  const made = await vaults.vaults.createOrUpdate(group, 'safe', {
    location,
    properties: {
      tenantId: tenant, sku: { family: 'A', name: 'standard' }, enablePurgeProtection: true, enableRbacAuthorization: false, accessPolicies: policies(needed),
    },
  });
  vaultUri = made.properties.vaultUri;
});
const keys = new KeyClient(vaultUri, credential);
const allow = (permissions) => vaults.vaults.updateAccessPolicy(group, 'safe', 'replace', {
  properties: { accessPolicies: policies(permissions).slice(1) },
});

const { key1 } = await accounts.accounts.listKeys(group, 'vip');
const face = createFaceClient(own, new AzureKeyCredential(key1));
const byToken = createFaceClient(own, credential);
const groups = (client = face) => client.path('/persongroups').get();
const served = async () => {
  const { status, body } = await until(() => groups(), (answer) => answer.status === '200');
  assert.equal(status, '200');
  assert.deepEqual(body.map((g) => g.personGroupId), ['staff']);
};
const locked = async () => {
  const { body, headers } = await until(() => groups(), (answer) => answer.status === '403');
  assert.equal(body.error.code, 'EncryptionKeyRevoked');
  assert.equal(headers['x-ms-error-code'], 'EncryptionKeyRevoked');
};

let first;
await tell('enable', async () => {
  const made = await face.path('/persongroups/{personGroupId}', 'staff').put({ body: { name: 'staff', recognitionModel: 'recognition_04' } });
  assert.ok(!isUnexpected(made), JSON.stringify(made.body));
  await refused(under({ name: 'faces', properties: { version: '0'.repeat(32) } }), 400, 'KeyVaultKeyNotFound');
  const elliptic = await keys.createEcKey('curve');
  await refused(under(elliptic), 400, 'KeyVaultKeyTypeNotSupported');
  first = await keys.createRsaKey('faces', { keySize: 2048 });
  const { properties } = await under(first);
  assert.equal(properties.provisioningState, 'Succeeded');
  assert.deepEqual(properties.encryption.keyVaultProperties, { ...keyVaultProperties(first) });
  await served();
});

let second;
await tell('rotate: tell the new version, and let the old one go', async () => {
  second = await keys.rotateKey('faces');
  assert.notEqual(second.properties.version, first.properties.version);
  await under(second);
  await keys.updateKeyProperties('faces', first.properties.version, { enabled: false });
  const { properties } = await get();
  assert.equal(properties.encryption.keyVaultProperties.keyVersion, second.properties.version);
  await served();
});

await tell('revoke: disable the key, and enable it again', async () => {
  await keys.updateKeyProperties('faces', second.properties.version, { enabled: false });
  await locked();
  const { properties } = await get();
  assert.equal(properties.provisioningState, 'Succeeded');
  await refused(update({ properties: { encryption: { keySource: 'Microsoft.CognitiveServices' } } }), 409, 'EncryptionKeyRevoked');
  await keys.updateKeyProperties('faces', second.properties.version, { enabled: true });
  await served();
});

await tell('revoke: take the permissions away, and give them back', async () => {
  await allow(['list']);
  await locked();
  await allow(needed);
  await served();
});

await tell('revoke: delete the key, and recover it', async () => {
  await (await keys.beginDeleteKey('faces', { intervalInMs: 50 })).pollUntilDone();
  await locked();
  await (await keys.beginRecoverDeletedKey('faces', { intervalInMs: 50 })).pollUntilDone();
  await served();
});

await tell('switch: to another key, which then alone matters', async () => {
  const other = await keys.createRsaKey('other', { keySize: 2048 });
  await under(other);
  await (await keys.beginDeleteKey('faces', { intervalInMs: 50 })).pollUntilDone();
  await served();
});

await tell('photos: the data plane goes on', async () => {
  const found = await face.path('/detect').post({
    contentType: 'application/octet-stream', body: bytes(cast.people[0].probe), queryParameters: { recognitionModel: 'recognition_04', returnFaceId: true },
  });
  assert.ok(!isUnexpected(found), JSON.stringify(found.body));
  assert.match(found.body[0].faceId, uuid);
});

await tell('keys can be switched off, and tokens go on', async () => {
  await update({ properties: { disableLocalAuth: true } });
  const { status, body } = await groups();
  assert.equal(status, '403');
  assert.equal(body.error.code, 'AuthenticationTypeDisabled');
  assert.equal((await groups(byToken)).status, '200');
  await update({ properties: { disableLocalAuth: false } });
  await served();
});

await tell('disable: back to the keys of the service', async () => {
  const { properties } = await update({ properties: { encryption: { keySource: 'Microsoft.CognitiveServices' } } });
  assert.equal(properties.encryption.keySource, 'Microsoft.CognitiveServices');
  assert.equal(properties.encryption.keyVaultProperties, undefined);
  await (await keys.beginDeleteKey('other', { intervalInMs: 50 })).pollUntilDone();
  await served();
});

await tell('delete and recover', async () => {
  await accounts.accounts.beginDeleteAndWait(group, 'vip');
  const names = [];
  for await (const one of accounts.deletedAccounts.list()) names.push(one.name);
  assert.deepEqual(names, ['vip']);
  const gone = await accounts.deletedAccounts.get('westus2', group, 'vip');
  assert.ok(gone.properties.deletionDate && gone.properties.scheduledPurgeDate);
  assert.equal((await groups()).status, '401');
  await refused(accounts.accounts.beginCreateAndWait(group, 'vip', { kind: 'Face', location, sku: { name: 'E0' } }), 409, 'FlagMustBeSetForRestore');
  const back = await accounts.accounts.beginCreateAndWait(group, 'vip', { kind: 'Face', location, sku: { name: 'E0' }, properties: { restore: true } });
  assert.equal(back.tags.team, 'front');
  await served();
});

await tell('purge', async () => {
  await accounts.accounts.beginDeleteAndWait(group, 'vip');
  await accounts.deletedAccounts.beginPurgeAndWait('westus2', group, 'vip');
  await refused(accounts.deletedAccounts.get('westus2', group, 'vip'), 404, 'ResourceNotFound');
  const names = [];
  for await (const one of accounts.accounts.listByResourceGroup(group)) names.push(one.name);
  assert.deepEqual(names, ['default']);
});
