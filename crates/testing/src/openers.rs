//! Decrypts by implementations that did not write the message: GnuPG and rPGP; Sequoia as the second one for v6.

use std::{
    collections::HashMap,
    fs,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    sync::OnceLock,
};

use flate2::read::{DeflateDecoder, ZlibDecoder};
use pgp::{
    composed::{Deserializable, Message, SignedSecretKey},
    types::Password,
};
use sequoia_openpgp::{
    Cert, Fingerprint, Packet, Result,
    packet::{Body, CompressedData, PKESK, Signature},
    parse::{PacketParser, PacketParserBuilder, PacketParserResult, Parse},
    types::CompressionAlgorithm,
};

use super::fixtures::{folder, secret};

/// A GnuPG home of its own with every secret key of the fixtures that GnuPG 2.2 can read.
#[derive(Debug)]
pub struct GnuPg {
    home: tempfile::TempDir,
}

impl GnuPg {
    pub fn new() -> Self {
        // gpg warns of a home that others can read, and a warning is a failure here.
        let private = fs::Permissions::from_mode(0o700);
        let gnupg = Self { home: tempfile::Builder::new().permissions(private).tempdir().unwrap() };
        for entry in fs::read_dir(folder("certs")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.ends_with(".sec.pgp") && !name.contains("v6") {
                let output = gnupg.command().arg("--import").arg(&path).output().expect("gpg is installed");
                assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            }
        }
        gnupg
    }

    fn command(&self) -> Command {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path()).args(["--batch", "--quiet", "--no-tty"]);
        command
    }

    /// The plaintext, if gpg is content with the message in every respect.
    pub fn decrypt(&self, armor: &[u8]) -> std::result::Result<Vec<u8>, String> {
        self.run(&["--decrypt"], armor)
    }

    /// Encrypts `data` to a certificate of the fixtures.
    pub fn encrypt(&self, name: &str, data: &[u8]) -> Vec<u8> {
        self.encrypt_with(&["--compress-algo", "none"], name, data)
    }

    /// The same with options of gpg.
    pub fn encrypt_with(&self, options: &[&str], name: &str, data: &[u8]) -> Vec<u8> {
        let to = format!("{name}@example.org");
        let usual = ["--armor", "--trust-model", "always", "-r", &to, "--encrypt"];
        self.run(&[options, &usual].concat(), data).unwrap()
    }

    fn run(&self, options: &[&str], input: &[u8]) -> std::result::Result<Vec<u8>, String> {
        let mut child = self
            .command()
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("gpg is installed");
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            // gpg closes its input early when it dislikes what it reads; its exit status tells.
            scope.spawn(move || drop(stdin.write_all(input)));
            child.wait_with_output().unwrap()
        });
        let stderr = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || stderr.contains("WARNING") {
            return Err(format!("gpg, {}: {stderr}", output.status));
        }
        Ok(output.stdout)
    }
}

impl Drop for GnuPg {
    fn drop(&mut self) {
        // The agent would outlive its home.
        drop(Command::new("gpgconf").arg("--homedir").arg(self.home.path()).args(["--kill", "all"]).status());
    }
}

/// A literal packet's content.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened {
    pub file_name: Vec<u8>,
    pub data: Vec<u8>,
}

/// Opens an armoured message with rPGP and the secret key of a fixture.
pub fn rpgp(name: &str, armor: &[u8]) -> std::result::Result<Opened, String> {
    let key = rpgp_key(name);
    let (message, _) =
        Message::from_armor(armor).map_err(|error| format!("rPGP cannot parse it: {error}"))?;
    if !message.is_encrypted() {
        return Err("rPGP: not encrypted".to_owned());
    }
    let mut message = message
        .decrypt(&Password::empty(), key)
        .map_err(|error| format!("rPGP cannot decrypt it: {error}"))?;
    if message.is_compressed() {
        message = message.decompress().map_err(|error| format!("rPGP cannot decompress it: {error}"))?;
    }
    let header = message.literal_data_header().ok_or("rPGP: no literal packet inside")?;
    let file_name = header.file_name().to_vec();
    // Integrity is checked at the end of the data.
    let data = message.as_data_vec().map_err(|error| format!("rPGP, reading: {error}"))?;
    Ok(Opened { file_name, data })
}

fn rpgp_key(name: &str) -> &'static SignedSecretKey {
    static KEYS: OnceLock<HashMap<String, SignedSecretKey>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        ["curve25519", "rsa3072", "two-subkeys", "v6", "two-subkeys-v6", "expired", "expired-subkeys"]
            .into_iter()
            .map(|name| {
                let (key, _) =
                    SignedSecretKey::from_reader_single(fs::File::open(secret(name)).unwrap()).unwrap();
                (name.to_owned(), key)
            })
            .collect()
    });
    &keys[name]
}

/// Opens an armoured message with Sequoia and the secret key of a fixture. Sequoia is built without compression here,
/// so a compressed packet is taken apart by hand.
pub fn sequoia(name: &str, armor: &[u8]) -> std::result::Result<Vec<u8>, String> {
    let cert = Cert::from_file(secret(name)).unwrap();
    open(&cert, armor)
}

/// Opens an armoured message with Sequoia and the secret keys in `cert`.
pub fn open(cert: &Cert, armor: &[u8]) -> std::result::Result<Vec<u8>, String> {
    open_packets(cert, armor).map_err(|error| format!("Sequoia: {error:#}"))
}

/// How many secret subkeys of a fixture can open an armoured message, each alone.
pub fn openable_with(name: &str, armor: &[u8]) -> usize {
    openable_by_expiry(name, armor).into_iter().filter(|opens| *opens).count()
}

/// Of each encryption subkey of a fixture, in the order of expiry, whether it can open an armoured message alone.
pub fn openable_by_expiry(name: &str, armor: &[u8]) -> Vec<bool> {
    openable_by(&Cert::from_file(secret(name)).unwrap(), armor)
}

/// The same of the secret keys in `cert`; of keys that expire at the same time in their order there.
pub fn openable_by(cert: &Cert, armor: &[u8]) -> Vec<bool> {
    let encrypts =
        |signature: &Signature| signature.key_flags().is_some_and(|flags| flags.for_storage_encryption());
    let mut keys: Vec<_> = cert.keys().subkeys().filter(|key| key.self_signatures().any(encrypts)).collect();
    keys.sort_by_key(|key| {
        key.self_signatures().next().and_then(|binding| binding.key_expiration_time(key.key()))
    });
    let only = |wanted: Fingerprint| cert.clone().retain_subkeys(|key| key.key().fingerprint() == wanted);
    keys.iter().map(|key| open_packets(&only(key.key().fingerprint()), armor).is_ok()).collect()
}

fn open_packets(cert: &Cert, message: &[u8]) -> Result<Vec<u8>> {
    let (mut pkesks, mut literals, mut compressed) = (Vec::new(), Vec::new(), None);
    let mut next = PacketParserBuilder::from_bytes(message)?.build()?;
    while let PacketParserResult::Some(mut parser) = next {
        match &parser.packet {
            Packet::SEIP(_) => decrypt(cert, &pkesks, &mut parser)?,
            Packet::PKESK(pkesk) => pkesks.push(pkesk.clone()),
            Packet::Literal(_) | Packet::CompressedData(_) => {
                // Reads to the end, and so checks integrity.
                parser.buffer_unread_content()?;
                match &parser.packet {
                    Packet::Literal(literal) => literals.push(literal.body().to_vec()),
                    Packet::CompressedData(packet) => compressed = Some(inflate(packet)?),
                    _ => unreachable!("the packet stays the same"),
                }
            }
            _ => {}
        }
        next = parser.recurse()?.1;
    }
    match (literals.pop(), compressed) {
        (Some(data), None) if literals.is_empty() => Ok(data),
        (None, Some(inner)) => open_packets(cert, &inner),
        _ => Err(io::Error::other("not one literal packet").into()),
    }
}

fn decrypt(cert: &Cert, pkesks: &[PKESK], parser: &mut PacketParser<'_>) -> Result<()> {
    for key in cert.keys().unencrypted_secret() {
        let mut pair = key.key().clone().into_keypair()?;
        for pkesk in pkesks {
            if let Some((algorithm, key)) = pkesk.decrypt(&mut pair, None) {
                return parser.decrypt(algorithm, &key);
            }
        }
    }
    Err(io::Error::other("no key fits").into())
}

fn inflate(packet: &CompressedData) -> Result<Vec<u8>> {
    let Body::Unprocessed(body) = packet.body() else {
        return Err(io::Error::other("already decompressed").into());
    };
    let mut inner = Vec::new();
    match packet.algo() {
        CompressionAlgorithm::Zip => DeflateDecoder::new(&body[..]).read_to_end(&mut inner)?,
        CompressionAlgorithm::Zlib => ZlibDecoder::new(&body[..]).read_to_end(&mut inner)?,
        other => return Err(io::Error::other(format!("compressed with {other}")).into()),
    };
    Ok(inner)
}
