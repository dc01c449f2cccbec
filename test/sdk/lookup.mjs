// Loaded before every story: names of the service are looked up on this machine, which is where it runs.
//
// Names below localhost are this machine (RFC 6761 §6.3), but not every system's resolver knows that; FACE_DOMAIN names
// another domain of a test.
import dns from 'node:dns';

const domains = ['localhost', process.env.FACE_DOMAIN].filter(Boolean);
const here = (host) => domains.some((domain) => host === domain || host.endsWith(`.${domain}`));
const { lookup } = dns;
dns.lookup = (host, options, done) => lookup(here(host) ? 'localhost' : host, options, done);
