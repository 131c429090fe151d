// Makes the tokens of the tests: JSON Web Tokens signed with HMAC SHA-256 (RFC 7519, RFC 7515).
import { createHmac } from 'node:crypto'

const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

export function sign (secret, claims, header = { alg: 'HS256', typ: 'JWT' }) {
  const text = `${encode(header)}.${encode(claims)}`
  const signature = header.alg === 'none' ? '' : createHmac('sha256', secret).update(text).digest('base64url')
  return `${text}.${signature}`
}
