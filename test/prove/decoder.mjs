// A second reader of the stored values, written from docs/formats/values.md and nothing else, with the standard library
// of Node alone. It reads the vectors that its argument names and writes, for each, what is inside, in hexadecimal, or
// null for what does not open.
import { createDecipheriv, createHash, createHmac, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'

const hmac = (key, data) => createHmac('sha256', key).update(data).digest()
const expand = (key, info) => hmac(key, Buffer.concat([info, Buffer.from([1])])) // HKDF-Expand of one block, RFC 5869 §2.3
const extract = (salt, secret) => hmac(salt, secret)
const text = (s) => Buffer.from(s, 'utf8')
const u32 = (n) => { const b = Buffer.alloc(4); b.writeUInt32BE(n); return b }
const u64 = (n) => { const b = Buffer.alloc(8); b.writeBigUInt64BE(BigInt(n)); return b }

// ctx is the one encoding of what is derived from or authenticated.
const ctx = (label, ...fields) => {
  const all = [text(label), ...fields]
  return Buffer.concat([u32(all.length), ...all.flatMap((f) => [u32(f.length), f])])
}

class Refused extends Error {}
const must = (ok, why) => { if (!ok) throw new Refused(why) }

// gcm opens nonce | ciphertext | tag.
function gcm (key, sealed, aad) {
  must(sealed.length >= 28, 'too short')
  const d = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, 12))
  d.setAAD(aad)
  d.setAuthTag(sealed.subarray(-16))
  try {
    return Buffer.concat([d.update(sealed.subarray(12, -16)), d.final()])
  } catch { throw new Refused('not authentic') }
}

// split checks the first four bytes and cuts the value behind the salt.
function split (value, what, fixed, fourth = 0) {
  must(value.length >= 4 + fixed + 24 + 28, 'too short')
  must(value[0] === what.charCodeAt(0) && value[1] === 1 && value[2] === 1, 'another format')
  must(fourth === null || value[3] === fourth, 'another fourth byte')
  return { head: value.subarray(0, 4 + fixed + 24), salt: value.subarray(4 + fixed, 4 + fixed + 24), sealed: value.subarray(4 + fixed + 24) }
}

// root returns the version of the instance root key that the fourth byte of a value names, of versions that lie one
// after the other.
function root (keys, value) {
  must(value.length >= 4, 'too short')
  const key = keys.subarray(32 * value[3], 32 * (value[3] + 1))
  must(key.length === 32, 'another version of the root key')
  return key
}

// mac checks what ends in a code, and returns what is before it, without the first four bytes.
function mac (value, what, key, label, ...fields) {
  must(value.length >= 4 + 32, 'too short')
  must(value[0] === what.charCodeAt(0) && value[1] === 1 && value[2] === 1, 'another format')
  const said = value.subarray(0, -32)
  must(timingSafeEqual(hmac(expand(key, ctx(label, ...fields)), ctx(label, said)), value.subarray(-32)), 'not authentic')
  return said.subarray(4)
}

const open = {
  record ({ key, at, number, value }) {
    const { head, salt, sealed } = split(value, 'V', 8, null)
    const schema = value.subarray(3, 4); const version = value.subarray(4, 12)
    must(version.equals(u64(number)), 'another version')
    const single = expand(key, ctx('visage/v1/rec', schema, at.record, version, salt))
    const aad = ctx('visage/v1/rec', head.subarray(0, 4), at.instance, at.space, at.container, at.record, version, salt)
    return Buffer.concat([schema, gcm(single, sealed, aad)])
  },
  nursery ({ key, at, value }) {
    const { head, sealed } = split(value, 'N', 0)
    must(sealed.length === 40 + 28, 'another length')
    const label = 'visage/v1/nursery'; const a = ctx(label, head, at.instance, at.space, at.container, at.record)
    const plain = gcm(expand(key, ctx(label, a)), sealed, a)
    return text(`${plain.readBigUInt64BE(32)} ${plain.subarray(0, 32).toString('hex')}`)
  },
  page ({ key, at, number, value }) {
    const level = Math.floor(number / 2 ** 32); const version = number % 2 ** 32
    const { head, sealed } = split(value, 'P', 8, null)
    must([16, 64, 256].includes((sealed.length - 28) / 56), 'another length')
    must(value[3] === level && value.readBigUInt64BE(4) === BigInt(version), 'another level or version')
    const label = 'visage/v1/page'; const a = ctx(label, head, at.instance, at.space, at.container, at.record)
    const plain = gcm(expand(key, ctx(label, a)), sealed, a)
    const lower = Buffer.alloc(16); lower[0] = 1
    let out = `${level} ${version} ${lower.toString('hex')} ${at.record.toString('hex')}`
    let before = lower; let ended = false
    for (let i = 0; i < plain.length; i += 56) {
      const slot = plain.subarray(i, i + 56)
      if (slot.every((b) => b === 0)) { ended = true; continue }
      const id = slot.subarray(0, 16)
      must(!ended && Buffer.compare(before, id) < 0 && Buffer.compare(id, at.record) <= 0, 'entries out of order')
      out += ` ${id.toString('hex')}:${slot.readBigUInt64BE(48)}:${slot.subarray(16, 48).toString('hex')}`
      before = id
    }
    return text(out)
  },
  head ({ key, at, value }) {
    const { head, sealed } = split(value, 'H', 8)
    must(sealed.length === 130 + 28, 'another length')
    const label = 'visage/v1/head'; const a = ctx(label, head, at.instance, at.space, at.container, at.record) // zero in a store; the vectors have one
    const p = gcm(expand(key, ctx(label, a)), sealed, a)
    const hex = (from, to) => p.subarray(from, to).toString('hex')
    return text(`${value.readUInt32BE(4)} ${value.readUInt32BE(8)} ${p.readBigUInt64BE(0)} ${p[8] === 1} ${p[9]} ${hex(10, 42)} ` +
      `${p.readBigUInt64BE(42)} ${p.readBigUInt64BE(50)} ${hex(58, 90)} ${p.readBigUInt64BE(90)} ${hex(98, 130)}`)
  },
  bundle ({ key, at, value }) {
    const { head, sealed } = split(value, 'B', 0, null)
    const reg = expand(root(key, value), ctx('visage/v1/reg', at.instance, at.space))
    return gcm(expand(reg, ctx('visage/v1/bundle', head)), sealed, ctx('visage/v1/bundle', head, at.instance, at.space))
  },
  epoch ({ key, at, number, value }) {
    const roots = Buffer.concat([key.subarray(0, 32), key.subarray(64)]); const data = key.subarray(32, 64)
    if (value[0] === 'C'.charCodeAt(0)) {
      const { head, sealed } = split(value, 'C', 4, null)
      must(sealed.length === 92 + 28 && value.readUInt32BE(4) === number, 'another length or epoch')
      const label = 'visage/v1/carried-epoch'; const carrying = expand(root(roots, value), ctx(label, at.instance, at.space))
      value = gcm(expand(carrying, ctx(label, head)), sealed, ctx(label, head, at.instance, at.space))
    }
    const { head, sealed } = split(value, 'E', 4, null)
    must(sealed.length === 32 + 28 && value.readUInt32BE(4) === number, 'another length or epoch')
    const store = extract(expand(root(roots, value), ctx('visage/v1/epoch', at.instance, at.space)), data)
    return gcm(expand(store, ctx('visage/v1/epoch', head)), sealed, ctx('visage/v1/epoch', head, at.instance, at.space))
  },
  former ({ key, at, number, value }) { // under the second version, whose key alone the vectors have
    const { head, sealed } = split(value, 'K', 0, 1)
    must(sealed.length === 32 + 28, 'another length')
    const label = 'visage/v1/former-root'; const its = expand(key, ctx(label, at.instance))
    return gcm(expand(its, ctx(label, head)), sealed, ctx(label, head, at.instance, u32(number)))
  },
  inner ({ key, at, number, value }) {
    must(value.length === 61 && value[0] === 1, 'another length or format')
    // The slot of the vectors: number 1 of a customer, whose commitment is that to a key of 32 bytes of 9.
    const commitment = hmac(Buffer.alloc(32, 9), ctx('visage/v1/commit', at.space, u32(number)))
    const aad = ctx('visage/slot/v1', at.instance, at.space, u32(number), u32(1), text('customer'), text('https://vault/keys/k'), text('7'),
      text('RSA-OAEP-256'), commitment)
    return gcm(expand(key, ctx('visage/v1/inner', at.instance, at.space)), value.subarray(1), aad)
  },
  log ({ key, at, number, value }) {
    const { head, sealed } = split(value, 'L', 0, null)
    const log = expand(root(key, value), ctx('visage/v1/log', at.instance, at.space))
    return gcm(expand(log, ctx('visage/v1/log', head)), sealed, ctx('visage/v1/log', head, at.instance, at.space, u64(number)))
  },
  portable ({ key, at, value }) {
    const { head, sealed } = split(value, 'X', 0, null)
    const purpose = text(at.space.toString('hex'))
    const its = expand(root(key, value), ctx('visage/v1/portable', at.instance, purpose))
    return gcm(expand(its, ctx('visage/v1/portable', head)), sealed, ctx('visage/v1/portable', head, at.instance, purpose))
  },
  lease ({ key, at, value }) { // the key of its row is a space id in the vectors
    const { head, sealed } = split(value, 'T', 0, null)
    const its = expand(root(key, value), ctx('visage/v1/lease', at.instance))
    return gcm(expand(its, ctx('visage/v1/lease', head)), sealed, ctx('visage/v1/lease', head, at.instance, at.space))
  },
  anchor ({ key, at, value }) { return mac(value, 'A', root(key, value), 'visage/v1/anchor', at.instance) },
  instance ({ key, value }) { must(value[3] === 0, 'another fourth byte'); return mac(value, 'I', key, 'visage/v1/instance') }
}
open['log entry'] = open.log

const file = process.argv[2]
const raw = readFileSync(file)
const results = JSON.parse(raw).map((v) => {
  const at = Object.fromEntries(Object.entries(v.place).map(([name, hex]) => [name, Buffer.from(hex, 'hex')]))
  const how = open[v.format]
  if (!how) return { unknown: v.format }
  try {
    return { inside: how({ key: Buffer.from(v.key, 'hex'), at, number: v.number, value: Buffer.from(v.value, 'hex') }).toString('hex') }
  } catch (e) {
    if (e instanceof Refused) return { refused: e.message }
    throw e
  }
})
console.log(JSON.stringify({ digest: createHash('sha256').update(raw).digest('hex'), results }))
