// A real provider of OpenID Connect, for the walk openid.mjs: it listens with the key and the certificate that its
// environment names, prints its port, and waits for a line with the address to which it sends browsers back. Everybody
// signs in with the name of their choice.
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const server = createServer({ key: readFileSync(process.env.PROVIDER_KEY), cert: readFileSync(process.env.PROVIDER_CERT) });
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

createInterface({ input: process.stdin }).once('line', (redirect) => {
  const provider = new Provider(`https://localhost:${server.address().port}`, {
    clients: [{
      client_id: 'visage', client_secret: process.env.PROVIDER_SECRET, redirect_uris: [redirect], require_auth_time: true,
    }],
    claims: { openid: ['sub'], profile: ['name'], groups: ['groups'] },
    scopes: ['openid', 'profile', 'groups'],
    conformIdTokenClaims: false, // the ID token has the claims of the scopes
    pkce: { required: () => true },
    findAccount: (_, id) => ({
      accountId: id, claims: () => ({ sub: id, name: `${id} of the issuer`, groups: id === 'grace' ? ['developers'] : [] }),
    }),
  });
  server.on('request', provider.callback());
  console.log('ready');
}).once('close', () => process.exit()); // with the test
