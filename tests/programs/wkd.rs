//! `mailseal keys add --wkd` against a local HTTPS server, in a network of its own (the feature `network`).

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

/// Becomes a host with a network that has nothing but itself, names it, serves the folder `web`, and runs the rest of
/// the arguments.
const HOST: &str = r#"
set -eu
ip link set lo up
mount --bind hosts /etc/hosts
printf 'hosts: files\n' > nsswitch && mount --bind nsswitch /etc/nsswitch.conf
(cd web && exec openssl s_server -accept 443 -cert ../server.pem -key ../server.key -WWW -quiet) &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 100); do
  openssl s_client -connect 127.0.0.1:443 </dev/null >/dev/null 2>&1 && break
  sleep 0.05
done
export SSL_CERT_FILE="$PWD/server.pem"
"$@"
"#;

const HASH: &str = "kei1q4tipxxu1yj79k9kfukdhfy631xe"; // alice

fn shell(dir: &Path, script: &str) -> Output {
    Command::new("sh").args(["-euc", script]).current_dir(dir).output().unwrap()
}

/// A server that publishes `cert` at `path`, known by `hosts`; `None` where this machine cannot be one.
fn server(hosts: &str, path: &str, cert: &[u8]) -> Option<TempDir> {
    let dir = tempfile::tempdir().unwrap();
    let able = shell(dir.path(), "unshare -nm true && command -v ip && command -v openssl").status.success();
    if !able {
        assert!(std::env::var_os("CI").is_none(), "CI must be able to make a network of its own");
        eprintln!("SKIPPED: this needs root, ip and openssl, to make a network of its own");
        return None;
    }
    let made = shell(
        dir.path(),
        "openssl req -x509 -newkey rsa:2048 -nodes -keyout server.key -out server.pem -days 2 -subj /CN=example.org \
         -addext 'subjectAltName=DNS:example.org,DNS:openpgpkey.example.org' -addext basicConstraints=critical,CA:FALSE",
    );
    assert!(made.status.success(), "{made:?}");
    fs::write(dir.path().join("hosts"), hosts).unwrap();
    let file = dir.path().join("web").join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, cert).unwrap();
    fs::create_dir(dir.path().join("keys")).unwrap();
    let folder = dir.path().display();
    let config =
        format!("[keys]\nsources = [\"file:{folder}/keys/%{{user}}.pgp\"]\nknown = \"{folder}/known\"\n");
    fs::write(dir.path().join("mailseal.toml"), config).unwrap();
    Some(dir)
}

fn add(dir: &TempDir, address: &str) -> Output {
    Command::new("unshare")
        .args(["-nm", "sh", "-c", HOST, "host"])
        .arg(testing::program("mailseal"))
        .args(["--config", "mailseal.toml", "keys", "add", "alice@example.org", "--wkd", address])
        .current_dir(dir)
        .output()
        .unwrap()
}

fn cert() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/certs/curve25519.pgp")).unwrap()
}

fn advanced() -> String {
    format!(".well-known/openpgpkey/example.org/hu/{HASH}?l=alice")
}

fn direct() -> String {
    format!(".well-known/openpgpkey/hu/{HASH}?l=alice")
}

#[test]
fn the_advanced_method_comes_first() {
    let Some(dir) = server("127.0.0.1 example.org openpgpkey.example.org\n", &advanced(), &cert()) else {
        return;
    };
    let output = add(&dir, "alice@example.org");
    assert!(output.status.success(), "{output:?}");
    assert!(dir.path().join("keys/alice@example.org.pgp").exists());
}

#[test]
fn the_direct_method_serves_where_there_is_no_host_for_the_other() {
    let Some(dir) = server("127.0.0.1 example.org\n", &direct(), &cert()) else { return };
    assert!(add(&dir, "alice@example.org").status.success());
}

#[test]
fn what_cannot_be_had_is_said_and_nothing_is_enrolled() {
    let cases = [
        ("127.0.0.1 example.org openpgpkey.example.org\n", direct(), cert(), "alice@example.org"),
        ("127.0.0.1 example.org\n", direct(), b"not a certificate".to_vec(), "alice@example.org"),
        ("127.0.0.1 example.org\n", direct(), vec![b'x'; 2_000_000], "alice@example.org"),
        ("127.0.0.1 other.example\n", direct(), cert(), "alice@other.example"),
        ("127.0.0.1 example.org\n", direct(), cert(), "alice@example.org/../x"),
        ("127.0.0.1 example.org\n", direct(), cert(), "alice"),
    ];
    for (hosts, path, content, address) in cases {
        let Some(dir) = server(hosts, &path, &content) else { return };
        let output = add(&dir, address);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{address}: {output:?}");
        assert_eq!(complaint.matches("mailseal: ").count(), 2, "{address}: {complaint}");
        assert_eq!(fs::read_dir(dir.path().join("keys")).unwrap().count(), 0);
    }
}
