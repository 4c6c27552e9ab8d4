//! Nothing genuine is refuted: what openssl and gpg make, in the forms that people use.

use std::path::Path;
use std::process::Command;

use super::forge::lines;
use super::{judged, noise};
use mailseal_core::classify::Encrypted;
use testing::filter;

fn openssl(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).current_dir(folder);
    let run = filter::run(&mut command, input, input.len().max(1));
    assert_eq!(run.status, Some(0), "openssl {arguments:?}: {}", run.stderr);
    run.stdout
}

fn certificate(folder: &Path, name: &str, options: &[&str]) -> String {
    let (subject, file) = (format!("/C=DE/O=An Organisation/CN={name}"), format!("{name}.crt"));
    let request = ["req", "-x509", "-nodes", "-days", "9", "-keyout", "/dev/null", "-subj", &subject];
    openssl(folder, &[&request[..], &["-out", &file, "-newkey"], options].concat(), b"");
    file
}

#[test]
fn genuine_smime_is_left_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path();
    let rsa = certificate(folder, "rsa4096", &["rsa:4096"]);
    let small = certificate(folder, "rsa2048", &["rsa:2048"]);
    let ec = certificate(folder, "ec", &["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]);
    let words = b"Content-Type: text/plain\r\n\r\nThe canary sings at noon.\r\n".repeat(20_000);
    let twenty = vec![&*rsa; 20];
    for recipients in [&[&*rsa][..], &[&*small], &[&*ec], &[&*rsa, &*ec], &[&*small; 5], &twenty] {
        for size in [1, 16, 100, 480, 2000, 11_000, 1_100_000] {
            for options in
                [&["-aes-256-cbc"][..], &["-aes-128-gcm"], &["-aes-256-cbc", "-stream"], &["-des3", "-keyid"]]
            {
                // Of one octet these make one and eight: fewer than the contract asks for.
                if size == 1 && !options.contains(&"-aes-256-cbc") {
                    continue;
                }
                let arguments =
                    [&["cms", "-encrypt", "-binary", "-outform", "DER"], options, recipients].concat();
                let cms = openssl(folder, &arguments, &words[..size]);
                let head = b"Content-Type: application/pkcs7-mime; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n";
                let message = [&head[..], &lines(&cms)].concat();
                let what =
                    format!("{} recipients {recipients:?} {options:?}, {size} bytes", recipients.len());
                assert_eq!(judged(&message), Some(Encrypted::Smime), "{what}");
            }
        }
    }
}

#[test]
fn genuine_armor_is_left_alone() {
    let gnupg = testing::openers::GnuPg::new();
    for size in [0, 1, 400, 700, 5000, 70_000, 2_000_000] {
        for text in
            [noise(size, 9), b"The canary sings at noon.\n".iter().copied().cycle().take(size).collect()]
        {
            for options in
                [&[][..], &["--compress-algo", "none"], &["--compress-algo", "none", "--no-literal"]]
            {
                for cert in ["curve25519", "rsa3072"] {
                    let armor = gnupg.encrypt_with(options, cert, &text);
                    let message = [b"Subject: x\n\n", &armor[..]].concat();
                    assert_eq!(judged(&message), Some(Encrypted::PgpInline), "{options:?} {cert} {size}");
                }
            }
        }
    }
}
