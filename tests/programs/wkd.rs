//! `mailseal keys add --wkd` and `keys refresh` against a local HTTPS server, in a network of its own (the feature `network`), and
//! what `mailseal keys export` publishes there. `proxies.rs` asks through a proxy on the same host.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use sequoia_openpgp::Cert;
use sequoia_openpgp::parse::Parse as _;
use sequoia_openpgp::types::ReasonForRevocation;
use tempfile::TempDir;
use testing::delivery::MAIL;
use testing::oracle::check_outside;
use testing::{filter, made, openers};

/// Becomes a host with a network that has nothing but itself, names it, serves the folder `web`, and runs the rest of
/// the arguments.
pub const HOST: &str = r#"
set -eu
ip link set lo up
mount --bind hosts /etc/hosts
printf 'hosts: files\n' > nsswitch && mount --bind nsswitch /etc/nsswitch.conf
if [ -e server.py ]; then
  python3 server.py &
else
  (cd web && exec openssl s_server -accept 443 -cert ../server.pem -key ../server.key -WWW -quiet) &
fi
server=$!
trap 'kill $server' EXIT
if [ -e proxy.py ]; then
  python3 proxy.py &
  trap "kill $server $!" EXIT
  until [ -e proxy.ready ]; do sleep 0.05; done
fi
for _ in $(seq 100); do
  openssl s_client -connect 127.0.0.1:443 </dev/null >/dev/null 2>&1 && break
  sleep 0.05
done
export SSL_CERT_FILE="$PWD/server.pem"
"$@"
"#;

/// A server that says of everything that it is not there; `openssl s_server` cannot.
const WITHOUT_ANYTHING: &str = r#"
import http.server, ssl
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.pem", "server.key")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)
    def log_message(self, *_):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Handler)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"#;

const HASH: &str = "kei1q4tipxxu1yj79k9kfukdhfy631xe"; // alice

fn shell(dir: &Path, script: &str) -> Output {
    Command::new("sh").args(["-euc", script]).current_dir(dir).output().unwrap()
}

/// A server that publishes `cert` at `path`, known by `hosts`; `None` where this machine cannot be one.
pub fn server(hosts: &str, path: &str, cert: &[u8]) -> Option<TempDir> {
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

/// `mailseal keys …` on that host.
fn keys(dir: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new("unshare");
    command.args(["-nm", "sh", "-c", HOST, "host"]).arg(testing::program("mailseal"));
    command.args(["--config", "mailseal.toml", "keys"]).args(arguments).current_dir(dir).output().unwrap()
}

fn add(dir: &TempDir, address: &str) -> Output {
    keys(dir, &["add", "alice@example.org", "--wkd", address])
}

fn cert() -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/certs/curve25519.pgp")).unwrap()
}

pub fn advanced() -> String {
    format!(".well-known/openpgpkey/example.org/hu/{HASH}?l=alice")
}

pub fn direct() -> String {
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

const BOTH: &str = "127.0.0.1 example.org openpgpkey.example.org\n";

/// A host whose directory publishes `published`, and where `enrolled` is alice's; `None` where this machine cannot be one.
fn enrolled(enrolled: &Cert, published: &Cert) -> Option<TempDir> {
    let dir = server(BOTH, &advanced(), &made::public(published))?;
    fs::write(dir.path().join("keys/alice@example.org.pgp"), made::public(enrolled)).unwrap();
    Some(dir)
}

pub fn stored(dir: &TempDir) -> Cert {
    Cert::from_file(dir.path().join("keys/alice@example.org.pgp")).unwrap()
}

/// Output and status.
pub fn told(output: &Output) -> (String, Option<i32>) {
    (String::from_utf8_lossy(&[&*output.stdout, &*output.stderr].concat()).into_owned(), output.status.code())
}

#[test]
fn another_expiry_and_new_subkeys_are_taken_over() {
    let old = made::expires_in("alice@example.org", made::DAY);
    let published = made::with_user_id(made::with_second_subkey(old.clone()), "other@example.org");
    let published = made::flooded(made::lasting(published), 50);
    let Some(dir) = enrolled(&old, &published) else { return };
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd", "--dry-run"]));
    assert!(status == Some(0) && text.contains("would refresh"), "{text}");
    assert_eq!(stored(&dir).keys().subkeys().count(), 1);
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd"]));
    assert!(status == Some(0) && text.contains(&format!("refreshed {}", made::fingerprint(&old))), "{text}");
    let new = stored(&dir);
    assert_eq!((new.keys().subkeys().count(), new.userids().count()), (2, 1));
    assert!(new.userids().all(|user_id| user_id.certifications().count() == 0), "others' certifications");
    let checked = told(&keys(&dir, &["check", "--within", "30d"]));
    assert_eq!(checked.1, Some(0), "{}", checked.0);
    // Again there is no news.
    let before = fs::read(dir.path().join("keys/alice@example.org.pgp")).unwrap();
    assert_eq!(told(&keys(&dir, &["refresh", "--wkd"])), (String::new(), Some(0)));
    assert_eq!(fs::read(dir.path().join("keys/alice@example.org.pgp")).unwrap(), before);
}

#[test]
fn a_revocation_counts_at_once_and_an_older_copy_does_not_take_it_back() {
    let old = made::cert("alice@example.org");
    let revoked = made::revoked(old.clone(), ReasonForRevocation::KeyCompromised);
    let Some(dir) = enrolled(&old, &revoked) else { return };
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd"]));
    assert!(status == Some(1) && text.contains("revoked"), "{text}");
    let listed = told(&keys(&dir, &["list"])).0;
    assert!(listed.contains("revoked as compromised"), "{listed}");
    fs::write(dir.path().join("web").join(advanced()), made::public(&old)).unwrap();
    // Without news, too, it is said whose mail waits.
    assert_eq!(told(&keys(&dir, &["refresh", "--wkd"])).1, Some(1));
    assert_eq!(told(&keys(&dir, &["list"])).0, listed);
}

#[test]
fn a_revoked_subkey_is_not_sealed_to_any_more() {
    let reason = ReasonForRevocation::KeyCompromised;
    let two = made::with_second_subkey(made::cert("alice@example.org"));
    let revoked = made::with_revoked_subkey(two.clone(), reason);
    let Some(dir) = enrolled(&two, &revoked) else { return };
    let sealed_to = || {
        let run = filter::filter(&dir.path().join("keys/alice@example.org.pgp"), &[], MAIL);
        assert_eq!(run.status, Some(0), "{}", run.stderr);
        openers::openable_by(&two, check_outside(MAIL, &run.stdout).unwrap().armor)
    };
    assert_eq!(sealed_to(), [true, true]);
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd"]));
    assert!(status == Some(0) && text.contains("refreshed"), "{text}");
    assert_eq!(sealed_to(), [false, true]);
    // An older copy does not bring it back; and where it was the only one, mail waits.
    fs::write(dir.path().join("web").join(advanced()), made::public(&two)).unwrap();
    assert_eq!(told(&keys(&dir, &["refresh", "--wkd"])), (String::new(), Some(0)));
    assert_eq!(sealed_to(), [false, true]);
    let one = made::cert("alice@example.org");
    let Some(dir) = enrolled(&one, &made::with_revoked_subkey(one.clone(), reason)) else { return };
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd"]));
    assert!(status == Some(1) && text.contains("refreshed"), "{text}");
    let run = filter::filter(&dir.path().join("keys/alice@example.org.pgp"), &[], MAIL);
    assert_eq!(run.status, Some(75), "{}", run.stderr);
}

/// A name service that cannot say whether there is a host for the advanced method: what the direct one has does not count.
#[test]
fn a_name_service_that_does_not_answer_is_a_failure() {
    let old = made::expires_in("alice@example.org", made::DAY);
    let Some(dir) = server("127.0.0.1 example.org\n", &direct(), &made::public(&made::lasting(old.clone())))
    else {
        return;
    };
    let file = dir.path().join("keys/alice@example.org.pgp");
    fs::write(&file, made::public(&old)).unwrap();
    let asks_dns = "printf 'hosts: files dns\n' > with-dns; printf 'nameserver 127.0.0.1\n' > resolv.conf; \
                    mount --bind with-dns /etc/nsswitch.conf; mount --bind resolv.conf /etc/resolv.conf; exec \"$@\"";
    let mut refresh = Command::new("unshare");
    refresh
        .args(["-nm", "sh", "-c", HOST, "host", "sh", "-euc", asks_dns, "asks"])
        .arg(testing::program("mailseal"));
    refresh.args(["--config", "mailseal.toml", "keys", "refresh", "--wkd"]).current_dir(&dir);
    let (text, status) = told(&refresh.output().unwrap());
    assert!(status == Some(1) && text.contains("whether there is a host openpgpkey.example.org"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), made::public(&old));
    // Where it says that there is none, the same page counts.
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd"]));
    assert!(status == Some(0) && text.contains("refreshed"), "{text}");
}

/// The page by which a keyserver of this scheme has a certificate.
fn page(scheme: &str, cert: &Cert) -> String {
    let fingerprint = made::fingerprint(cert);
    match scheme {
        "https" => format!("vks/v1/by-fingerprint/{fingerprint}"),
        _ => format!("pks/lookup?op=get&options=mr&search=0x{fingerprint}"),
    }
}

#[test]
fn a_keyserver_is_asked_by_fingerprint() {
    for scheme in ["https", "hkps"] {
        let old = made::expires_in("alice@example.org", made::DAY);
        let news = made::armored(&made::flooded(made::lasting(old.clone()), 20));
        let Some(dir) = server(BOTH, &page(scheme, &old), &news) else { return };
        fs::write(dir.path().join("keys/alice@example.org.pgp"), made::public(&old)).unwrap();
        let (text, status) =
            told(&keys(&dir, &["refresh", "--keyserver", &format!("{scheme}://example.org")]));
        assert!(status == Some(0) && text.contains("refreshed"), "{scheme}: {text}");
        let user_ids = stored(&dir);
        assert!(user_ids.userids().all(|user_id| user_id.certifications().count() == 0), "{scheme}");
    }
}

/// The merge is that of the others: another key is named, what is no certificate or too large too, a revocation counts at once.
#[test]
fn what_a_keyserver_answers_by_hkp_counts_as_elsewhere() {
    let old = made::cert("alice@example.org");
    let asked = page("hkps", &old);
    let Some(dir) = server(BOTH, &asked, &made::armored(&made::cert("alice@example.org"))) else { return };
    let file = dir.path().join("keys/alice@example.org.pgp");
    fs::write(&file, made::public(&old)).unwrap();
    let refresh = || told(&keys(&dir, &["refresh", "--keyserver", "hkps://example.org"]));
    let (text, status) = refresh();
    assert!(status == Some(1) && text.contains("another certificate is published there"), "{text}");
    for content in [&b"<html>no keys found</html>"[..], &vec![b'x'; 2_000_000]] {
        fs::write(dir.path().join("web").join(&asked), content).unwrap();
        let (text, status) = refresh();
        assert!(status == Some(1) && text.contains("user alice@example.org: "), "{text}");
    }
    assert_eq!(fs::read(&file).unwrap(), made::public(&old));
    let revoked = made::revoked(old, ReasonForRevocation::KeyCompromised);
    fs::write(dir.path().join("web").join(&asked), made::armored(&revoked)).unwrap();
    let (text, status) = refresh();
    assert!(
        status == Some(1) && text.contains("refreshed") && text.contains("revoked as compromised"),
        "{text}"
    );
    fs::write(dir.path().join("server.py"), WITHOUT_ANYTHING).unwrap();
    let again = refresh();
    assert!(again.1 == Some(1) && !again.0.contains("refreshed"), "mail still waits: {}", again.0);
}

#[test]
fn a_user_whose_answer_is_bad_keeps_nobody_else_from_being_refreshed() {
    let old = made::expires_in("alice@example.org", made::DAY);
    let Some(dir) = enrolled(&old, &made::lasting(old.clone())) else { return };
    for (user, domain) in [("aaron", "example.org"), ("ada", "nowhere.example"), ("zoe", "nowhere.example")] {
        let cert = made::cert(&format!("{user}@{domain}"));
        fs::write(dir.path().join(format!("keys/{user}@{domain}.pgp")), made::public(&cert)).unwrap();
    }
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd"]));
    assert!(status == Some(1) && text.contains(&format!("refreshed {}", made::fingerprint(&old))), "{text}");
    assert_eq!(text.matches("not asked again in this run").count(), 1, "{text}");
    for user in ["aaron@example.org", "ada@nowhere.example", "zoe@nowhere.example"] {
        assert!(text.contains(&format!("user {user}: ")), "{text}");
    }
}

#[test]
fn what_is_not_news_of_an_enrolled_certificate_changes_nothing() {
    let old = made::cert("alice@example.org");
    let Some(dir) = enrolled(&old, &made::cert("alice@example.org")) else { return };
    let before = fs::read(dir.path().join("keys/alice@example.org.pgp")).unwrap();
    // Another primary key.
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd"]));
    assert!(status == Some(1) && text.contains("another certificate"), "{text}");
    for content in [&b"not a certificate"[..], &vec![b'x'; 2_000_000]] {
        fs::write(dir.path().join("web").join(advanced()), content).unwrap();
        let (text, status) = told(&keys(&dir, &["refresh", "--wkd"]));
        assert!(status == Some(1) && text.contains("user alice@example.org: "), "{text}");
    }
    fs::write(dir.path().join("web").join(advanced()), made::secret(&old)).unwrap();
    keys(&dir, &["refresh", "--wkd"]);
    let (text, status) = told(&keys(&dir, &["refresh", "--wkd", "nobody@example.org"]));
    assert!(status == Some(1) && text.contains("user nobody@example.org: "), "{text}");
    let (text, status) = told(&keys(&dir, &["refresh", "--keyserver", "https://nowhere.example"]));
    assert!(status == Some(1) && text.contains("it is tried again the next time"), "{text}");
    let (text, status) = told(&keys(&dir, &["refresh", "--keyserver", "http://example.org"]));
    assert!(status == Some(64) && text.contains("HTTPS"), "{text}");
    let (text, status) = told(&keys(&dir, &["refresh", "--keyserver", "hkp://example.org"]));
    assert!(status == Some(64) && text.contains("in clear"), "{text}");
    // A server that has nothing is no fault.
    fs::write(dir.path().join("server.py"), WITHOUT_ANYTHING).unwrap();
    let asked =
        ["refresh", "--wkd", "--keyserver", "https://example.org/", "--keyserver", "hkps://example.org"];
    assert_eq!(told(&keys(&dir, &asked)), (String::new(), Some(0)));
    assert_eq!(fs::read(dir.path().join("keys/alice@example.org.pgp")).unwrap(), before);
}

/// `mailseal keys export` by itself.
fn export(dir: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(testing::program("mailseal"));
    command.args(["--config", "mailseal.toml", "keys", "export", "--wkd"]).args(arguments);
    command.current_dir(dir).output().unwrap()
}

/// A folder with alice and bob enrolled and a folder `web`.
fn site() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for folder in ["keys", "web"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
    }
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for user in ["alice", "bob"] {
        let cert = made::public(&made::cert(&format!("{user}@example.org")));
        fs::write(dir.path().join(format!("keys/{user}@example.org.pgp")), cert).unwrap();
    }
    let folder = dir.path().display();
    let config =
        format!("[keys]\nsources = [\"file:{folder}/keys/%{{user}}.pgp\"]\nknown = \"{folder}/known\"\n");
    fs::write(dir.path().join("mailseal.toml"), config).unwrap();
    dir
}

/// The files below `web`, by their paths there.
fn published(dir: &TempDir) -> Vec<String> {
    let found = shell(dir.path(), "cd web && find . -type f -printf '%P\\n' | sort");
    String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn the_enrolled_are_exported_for_both_methods_and_taken_away_again() {
    let dir = site();
    let output = export(&dir, &["web", "--all"]);
    assert!(output.status.success(), "{output:?}");
    let place = |path: &str| format!(".well-known/openpgpkey/{path}");
    let bob = "jycbiujnsxs47xrkethgtj69xuunurok";
    let mut all: Vec<String> = [".mailseal", "policy", "example.org/policy"].map(place).to_vec();
    for hash in [HASH, bob] {
        all.extend([place(&format!("hu/{hash}")), place(&format!("example.org/hu/{hash}"))]);
    }
    all.sort();
    assert_eq!(published(&dir), all);
    let page = fs::read(dir.path().join("web").join(place(&format!("hu/{HASH}")))).unwrap();
    assert_eq!(
        page,
        fs::read(dir.path().join("web").join(place(&format!("example.org/hu/{HASH}")))).unwrap()
    );

    // A file of another's stays, whoever is named, and one in the way is not overwritten.
    fs::write(dir.path().join("web/index.html"), "x").unwrap();
    let output = export(&dir, &["web", "bob@example.org"]);
    assert!(output.status.success(), "{output:?}");
    let left = published(&dir);
    assert!(
        left.contains(&"index.html".to_owned()) && !left.iter().any(|path| path.contains(HASH)),
        "{left:?}"
    );
    let foreign = dir.path().join("web").join(place(&format!("hu/{HASH}")));
    fs::write(&foreign, "another's").unwrap();
    let output = export(&dir, &["web", "--all"]);
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("is there already"));
    assert_eq!(fs::read(&foreign).unwrap(), b"another's");
    assert_eq!(published(&dir).len(), left.len() + 1, "nothing else was changed");
}

#[test]
fn what_cannot_be_exported_is_named_and_what_was_there_stays() {
    let dir = site();
    assert!(export(&dir, &["web", "--all"]).status.success());
    let before = published(&dir);
    fs::write(dir.path().join("keys/alice@example.org.pgp"), "no certificate").unwrap();
    let output = export(&dir, &["web", "--all"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("user alice@example.org:"), "{complaint}");
    assert_eq!(published(&dir), before);

    // Her certificate has another address only.
    fs::write(dir.path().join("keys/carol@example.org.pgp"), made::public(&made::cert("carol@example.net")))
        .unwrap();
    let output = export(&dir, &["web", "carol@example.org"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && complaint.contains("has the address"), "{complaint}");

    for arguments in [&["web"][..], &["nowhere", "--all"], &["web", "--all", "bob@example.org"]] {
        assert!(!export(&dir, arguments).status.success(), "{arguments:?}");
    }
    fs::set_permissions(dir.path().join("web"), fs::Permissions::from_mode(0o777)).unwrap();
    let output = export(&dir, &["web", "--all"]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && complaint.contains("everybody can write"), "{complaint}");
}

/// Alice's certificate, and a server that knows its host by `hosts` and hands out what was exported.
fn exported(hosts: &str) -> Option<(Cert, TempDir)> {
    let dir = server(hosts, "none", b"")?;
    let alice = made::cert("alice@example.org");
    fs::write(dir.path().join("keys/alice@example.org.pgp"), made::public(&alice)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let output = export(&dir, &["web", "--all"]);
    assert!(output.status.success(), "{output:?}");
    // The server takes what a URL asks with for a part of the file's name.
    let named = "cd web/.well-known/openpgpkey && for page in hu/* example.org/hu/*; do cp $page \"$page?l=alice\"; done";
    assert!(shell(dir.path(), named).status.success());
    Some((alice, dir))
}

#[test]
fn gpg_finds_what_was_exported() {
    let hosts = "127.0.0.1 example.org openpgpkey.example.org\n";
    let Some((alice, dir)) = exported(hosts) else { return };
    let gpg = "mkdir -m 700 home; echo standard-resolver > home/dirmngr.conf; \
               mount --bind server.pem /etc/ssl/certs/ca-certificates.crt; \
               gpg --homedir home --batch --auto-key-locate clear,wkd --locate-keys alice@example.org; \
               status=$?; gpgconf --homedir home --kill all; exit $status";
    let mut command = Command::new("unshare");
    command.args(["-nm", "sh", "-c", HOST, "host", "sh", "-c", gpg]).current_dir(&dir);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(&alice.fingerprint().to_hex()), "{output:?}");
}

/// gpg asks DNS itself whether there is a host for the other method, and a host without a network cannot say no.
#[test]
fn mailseal_finds_what_was_exported_by_the_direct_method() {
    let Some((_, dir)) = exported("127.0.0.1 example.org\n") else { return };
    let file = dir.path().join("keys/alice@example.org.pgp");
    let before = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    assert!(add(&dir, "alice@example.org").status.success());
    assert_eq!(fs::read(&file).unwrap(), before);
}
