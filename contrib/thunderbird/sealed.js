// SPDX-License-Identifier: MIT OR Apache-2.0
// Whether a server sealed a message at rest. Doubt is a no: Thunderbird then does what it does without this add-on.
//
// The mark counts where only the ciphertext can have brought it: in the header of the one entity that was decrypted. The
// outside is read strictly, so that no two readers of MIME can see different ciphertexts in it. What is shown and quoted
// would else not be what was judged.

"use strict";

const MARK = "v1";
const CONTENT_TYPE = /^\s*multipart\/encrypted((?:;\s*[a-z]+=(?:"[^"\\\r\n]*"|[^\s";]+)\s*)+)$/i;
const PARAMETER = /;\s*([a-z]+)=(?:"([^"]*)"|([^\s";]+))/gi;
const BOUNDARY = /^[0-9A-Za-z'()+_,.\/:=?-]{1,70}$/;
const ARMOR = /^[0-9A-Za-z+\/=\r\n]+$/;
const INLINE = /-----BEGIN PGP (?:SIGNED )?MESSAGE-----/;
const ENCRYPTED_TYPES = ["multipart/encrypted", "application/pgp-encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime"];

/** The boundary of a PGP/MIME message with exactly one Content-Type, of the plainest form; else null. */
function boundaryOf(headers) {
  const types = headers["content-type"] ?? [];
  const match = types.length === 1 && CONTENT_TYPE.exec(types[0]);
  if (!match) {
    return null;
  }
  const parameters = [...match[1].matchAll(PARAMETER)].map(([, name, quoted, token]) => [name.toLowerCase(), quoted ?? token]);
  const { protocol, boundary, ...others } = Object.fromEntries(parameters);
  const plain = parameters.length === 2 && Object.keys(others).length === 0;
  const right = protocol?.toLowerCase() === "application/pgp-encrypted" && BOUNDARY.test(boundary ?? "");
  return plain && right ? boundary : null;
}

/** Whether the raw message has nothing but the two parts of PGP/MIME after its header, and one armored block in the second. */
function isOneCiphertext(raw, boundary) {
  const text = raw.replaceAll("\r\n", "\n");
  const body = text.slice(text.indexOf("\n\n") + 2);
  const start = body.indexOf("\n-----BEGIN PGP MESSAGE-----\n\n");
  const end = body.indexOf("\n-----END PGP MESSAGE-----\n");
  if (start < 0 || end < start || body.length - end > 500 || start > 2000) {
    return false;
  }
  const front = body.slice(0, start + 1).split(`--${boundary}\n`);
  const tail = body.slice(end).replace("\n-----END PGP MESSAGE-----\n", "").trim();
  const armor = body.slice(start + "\n-----BEGIN PGP MESSAGE-----\n\n".length, end);
  return (
    front.length === 3 &&
    front[0] === "" &&
    /^Content-Type: application\/pgp-encrypted\n(?:Content-Description: .*\n)?\nVersion: 1\n+$/.test(front[1]) &&
    /^Content-Type: application\/octet-stream(?:;.*)?\n(?:Content-D[a-z]+: .*\n)*\n$/.test(front[2]) &&
    tail === `--${boundary}--` &&
    ARMOR.test(armor) &&
    !armor.includes(boundary)
  );
}

/** Whether anything in this part of the decrypted tree is, or may be, ciphertext again. */
function holdsCiphertext(part) {
  return (
    ENCRYPTED_TYPES.includes(part.contentType?.toLowerCase()) ||
    INLINE.test(part.body ?? "") ||
    (part.parts ?? []).some(holdsCiphertext)
  );
}

/** Whether the decrypted message is one entity with exactly one mark in its own header. */
function isMarked(message) {
  const opened = message.parts?.[0];
  const entity = opened?.parts?.[0];
  const marks = entity?.headers?.["sealed-at-rest"] ?? [];
  return (
    message.decryptionStatus === "success" &&
    message.parts.length === 1 &&
    opened.contentType === "multipart/mixed" && // What Thunderbird makes of the multipart/encrypted that it opened.
    opened.parts.length === 1 &&
    marks.length === 1 &&
    marks[0].trim() === MARK &&
    !holdsCiphertext(entity)
  );
}

/** Whether the stored message was sealed at rest by a server. An error is a no. */
async function isSealedAtRest(messageId) {
  try {
    const boundary = boundaryOf(await messenger.messages.getHeaders(messageId, { decodeHeaders: false }));
    if (boundary === null) {
      return false;
    }
    const raw = await messenger.messages.getRaw(messageId, { decrypt: false, data_format: "BinaryString" });
    return isOneCiphertext(raw, boundary) && isMarked(await messenger.messages.getFull(messageId, { decrypt: true }));
  } catch (error) {
    console.warn("Sealed at Rest: the message could not be judged", error);
    return false;
  }
}
