// Opens a sealed mail as a webmail does: OpenPGP.js and postal-mime. Shows what a reader that knows nothing of RFC 9788
// shows, and what one that follows its section 4 does.
import { readFileSync } from 'node:fs'
import * as openpgp from 'openpgp'
import PostalMime from 'postal-mime'

const [keyFile, mailFile] = process.argv.slice(2)
const privateKey = await openpgp.readPrivateKey({ binaryKey: readFileSync(keyFile) })
const outer = readFileSync(mailFile, 'utf8')
const message = await openpgp.readMessage({ armoredMessage: outer.slice(outer.indexOf('-----BEGIN PGP')) .replace(/(-----END PGP MESSAGE-----)[^]*/, '$1\n') })
const { data } = await openpgp.decrypt({ message, decryptionKeys: privateKey, format: 'binary' })

const shown = await PostalMime.parse(outer)
const payload = await PostalMime.parse(data)
const raw = new TextDecoder().decode(data).split('\r\n\r\n')[0].replace(/\r\n[ \t]+/g, ' ')
const type = raw.match(/^Content-Type:(.*)$/mi)[1]
const text = (payload.text ?? payload.html).slice(0, 90)
console.log(JSON.stringify({ reader: 'unaware', subject: shown.subject, body: text }))

const isProtected = /;\s*hp="cipher"/.test(type)
const records = [...raw.matchAll(/^HP-Outer: ([^:]+):(.*)$/gm)].map(([, name, value]) => [name.toLowerCase(), value.trim()])
const outside = shown.headers.filter(h => !/^(content-|mime-version)/.test(h.key)).map(h => [h.key, h.value])
const same = records.every(([name], n) => outside[n][0] === name) && records.length === outside.length
let body = payload.html ?? payload.text
if (/hp-legacy-display="1"/.test(type)) {
  body = payload.html?.replace(/<div class="header-protection-legacy-display">[^]*?<\/div>\s*/, '') ?? payload.text.replace(/^[^]*?\n\r?\n/, '')
}
const hidden = ['subject', 'dkim-signature'].filter(name => !records.some(([other, value]) => other === name && value === payload.headers.find(h => h.key === name)?.value))
console.log(JSON.stringify({ reader: 'RFC 9788', isProtected, recordsMatchOutside: same, subject: payload.subject, encryptedOnly: hidden, body: body.slice(0, 90) }))
