//! S/MIME certificates that must lead to an authority to be enrolled, and what authorities revoke: with authorities of openssl's.

use std::fs;
use std::path::Path;
use std::process::Command;

use testing::{
    admin::Admin,
    fixtures,
    smime::{self, file},
};

const SOURCES: &str = "sources = [\"file:DIR/keys/%{user}.pgp\"]";

fn chain(name: &str) -> String {
    file(&format!("chain/{name}")).to_str().unwrap().to_owned()
}

/// A folder of openssl's in which commands are run.
struct Openssl<'a>(&'a Path);

impl Openssl<'_> {
    #[track_caller]
    fn run(&self, line: &str) {
        let mut command = Command::new("openssl");
        let output = command.args(line.split_whitespace()).current_dir(self.0).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// A root, and an authority below it.
    fn authorities(&self) {
        self.run(
            "req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -days 3650 -subj /CN=Root",
        );
        self.run("req -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout inter.key -out inter.csr -subj /CN=Inter");
        fs::write(
            self.0.join("ca.ext"),
            "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n",
        )
        .unwrap();
        self.run(
            "x509 -req -in inter.csr -CA root.pem -CAkey root.key -days 365 -extfile ca.ext -out inter.pem",
        );
    }

    /// A user's key and certificate, as docs/smime.md makes them.
    fn user(&self, name: &str, authority: &str) {
        self.user_with(name, authority, "1.3.6.1.4.1.99999.2=DER:0500");
    }

    /// The same with one more extension.
    fn user_with(&self, name: &str, authority: &str, extension: &str) {
        self.run(&format!(
            "req -new -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name} \
             -addext subjectAltName=email:{name}@example.org -addext keyUsage=critical,digitalSignature,keyEncipherment \
             -addext extendedKeyUsage=emailProtection -addext basicConstraints=critical,CA:FALSE -addext {extension}"
        ));
        self.run(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -days 300 -copy_extensions copy -out {name}.pem"
        ));
    }
}

/// The authority `root` in openssl's folder, with the index that `openssl ca` keeps.
struct Authority<'a>(&'a Openssl<'a>);

impl Authority<'_> {
    fn set_up(&self, admin: &Admin) {
        let settings =
            "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\n";
        for (name, content) in [("ca.cnf", settings), ("index.txt", ""), ("number", "01\n")] {
            admin.write(name, content.as_bytes());
        }
    }

    fn publish(&self, file: &str) {
        self.0.run(&format!(
            "ca -config ca.cnf -gencrl -keyfile root.key -cert root.pem -crldays 7 -out {file}"
        ));
    }

    fn revoke(&self, user: &str, reason: &str) {
        self.0.run(&format!(
            "ca -config ca.cnf -revoke {user}.pem -crl_reason {reason} -keyfile root.key -cert root.pem"
        ));
    }
}

fn path(admin: &Admin, name: &str) -> String {
    admin.path(name).to_str().unwrap().to_owned()
}

#[test]
fn a_certificate_leads_to_an_authority_by_what_is_given_with_it() {
    let admin = Admin::with(&format!("{SOURCES}\nsmime-ca = [\"DIR/root.pem\"]"));
    let folder = admin.path("");
    let openssl = Openssl(&folder);
    openssl.authorities();
    openssl.user("alice", "inter");
    openssl.user("bob", "root");
    openssl.run("crl2pkcs7 -nocrl -certfile alice.pem -certfile inter.pem -out alice.p7b");
    openssl.run("crl2pkcs7 -nocrl -certfile alice.pem -certfile inter.pem -certfile root.pem -outform DER -out all.p7b");
    openssl.run("pkcs12 -export -in alice.pem -certfile inter.pem -nokeys -certpbe NONE -passout pass: -out alice.p12");
    let both =
        [fs::read(admin.path("alice.pem")).unwrap(), fs::read(admin.path("inter.pem")).unwrap()].concat();
    let pem = admin.write("both.pem", &both);

    let alone = admin.run(&["add", "alice", &path(&admin, "alice.pem")]);
    alone.assert_failed("alone", 1);
    assert!(
        alone.stderr.contains("its issuer, CN=Inter, is no authority that is trusted"),
        "{}",
        alone.stderr
    );
    assert!(alone.stderr.contains("give the certificates between"), "{}", alone.stderr);
    assert!(!admin.key_file("alice").exists());
    let [single, inter] = ["alice.pem", "inter.pem"].map(|name| path(&admin, name));
    for files in [
        &[path(&admin, "alice.p7b")][..],
        &[path(&admin, "all.p7b")],
        &[path(&admin, "alice.p12")],
        &[pem],
        &[single, inter],
    ] {
        let files: Vec<&str> = files.iter().map(String::as_str).collect();
        let said = admin.run(&[&["add", "alice"], &files[..]].concat()).said();
        assert!(
            said.contains("leads to the authority CN=Root") && !said.contains("pinned"),
            "{files:?}: {said}"
        );
        // No authority's is kept.
        assert_eq!(admin.run(&["list"]).said().matches("alice").count(), 1, "{files:?}");
        let test = admin.run(&["test", "alice"]).stdout;
        assert!(smime::decrypt(&admin.path("alice.key"), None, &test).status == Some(0), "{files:?}");
        admin.run(&["remove", "alice"]).said();
    }
    let said = admin.run(&["add", "bob", &path(&admin, "bob.pem")]).said();
    assert!(said.contains("leads to the authority CN=Root"), "{said}");
    // OpenPGP knows no authorities.
    admin.run(&["add", "carol", fixtures::cert("curve25519").to_str().unwrap()]).said();
    let lone = admin.run(&["add", "dave", &path(&admin, "inter.pem")]);
    lone.assert_failed("an authority alone", 1);
    assert!(lone.stderr.contains("a certificate authority's"), "{}", lone.stderr);
}

#[test]
fn without_authorities_it_is_pinned_and_that_is_said() {
    let admin = Admin::with(SOURCES);
    let said = admin.run(&["add", "alice", &chain("alice.pem")]).said();
    assert!(said.contains("pinned: who issued it is not checked, because `smime-ca` is not set"), "{said}");
    // What issued it may be given with it all the same.
    admin.run(&["add", "bob", &chain("alice.pem"), &chain("inter.pem")]).said();
    let lone = admin.run(&["add", "carol", &chain("root.pem"), &chain("inter.pem")]);
    lone.assert_failed("authorities alone", 64);
    assert!(lone.stderr.contains("among those of authorities"), "{}", lone.stderr);
}

#[test]
fn what_leads_nowhere_is_refused_and_nothing_is_stored() {
    let admin = Admin::with(SOURCES);
    let trusting = |name: &str| admin.configure(&format!("{SOURCES}\nsmime-ca = [{:?}]", chain(name)));
    for (trusted, given, why) in [
        ("root.pem", "expired.pem", "has expired"),
        ("root.pem", "no-sign.pem", "may not sign certificates"),
        ("root.pem", "other-key.pem", "is not that of the issuer"),
        ("root.pem", "maze.pem", "more than 16 certificates of authorities"),
        ("root-len0.pem", "inter.pem", "pathLenConstraint"),
        ("root-rsa.pem", "inter.pem", "is no authority that is trusted"),
    ] {
        trusting(trusted);
        let run = admin.run(&["add", "alice", &chain("alice.pem"), &chain(given)]);
        run.assert_failed(given, 1);
        assert!(run.stderr.contains(why), "{given}: {}", run.stderr);
        assert!(!admin.key_file("alice").exists(), "{given}");
    }
    // What is trusted is a doubt of its own.
    for (trusted, why) in [
        (chain("alice.pem"), "the certificate of CN=Alice is not an authority's"),
        (chain("missing.pem"), "there is no such file"),
        (path(&admin, "mailseal.toml"), "it is broken"),
    ] {
        admin.configure(&format!("{SOURCES}\nsmime-ca = [{trusted:?}]"));
        let run = admin.run(&["add", "alice", &chain("alice.pem"), &chain("inter.pem")]);
        assert!(run.status != Some(0) && run.stderr.contains(why), "{trusted}: {}", run.stderr);
        assert!(!admin.key_file("alice").exists(), "{trusted}");
    }
    trusting("root.pem");
    admin.run(&["add", "alice", &chain("alice.pem"), &chain("inter.pem")]).said();
}

/// Alice, enrolled, and her authority, whose lists `lists` are.
fn enrolled(lists: &[&str]) -> Admin {
    let admin = Admin::with(&trusting(&["inter.pem", "root.pem"], &[]));
    admin.run(&["add", "alice", &chain("alice.pem")]).said();
    admin.configure(&trusting(&["inter.pem", "root.pem"], lists));
    admin
}

/// The settings with these authorities and these lists.
fn trusting(authorities: &[&str], lists: &[&str]) -> String {
    let [authorities, lists] =
        [authorities, lists].map(|names| names.iter().map(|name| chain(name)).collect::<Vec<_>>());
    format!("{SOURCES}\nsmime-ca = {authorities:?}\nsmime-crl = {lists:?}")
}

#[test]
fn what_is_revoked_is_disabled_and_told() {
    for (list, state, fit) in [
        ("key-compromise.crl", "revoked as compromised or without a reason (keyCompromise)", false),
        ("no-reason.crl", "revoked as compromised or without a reason (unspecified)", false),
        ("certificate-hold.crl", "revoked as compromised or without a reason (certificateHold)", false),
        ("superseded.crl", "revoked as superseded or retired (superseded)", true),
    ] {
        let admin = enrolled(&[list]);
        let before = fs::read(admin.key_file("alice")).unwrap();
        let run = admin.run(&["refresh", "--crl", "--dry-run"]);
        let said = String::from_utf8(run.stdout.clone()).unwrap();
        assert!(said.starts_with("would refresh ") && said.contains(state), "{list}: {said} {}", run.stderr);
        assert!(fs::read(admin.key_file("alice")).unwrap() == before, "{list}");
        let run = admin.run(&["refresh", "--crl"]);
        let said = String::from_utf8(run.stdout.clone()).unwrap();
        assert!(said.contains(" of alice: ") && said.contains(state), "{list}: {said} {}", run.stderr);
        assert_eq!(run.status, Some(i32::from(!fit)), "{list}: {}", run.stderr);
        assert_eq!(run.stderr.contains("no usable"), !fit, "{list}: {}", run.stderr);
        // It stays, and openssl knows why.
        let again = admin.run(&["refresh", "--crl"]);
        assert!(again.stdout.is_empty() && again.status == run.status, "{list}: {again:?}");
        let file = admin.key_file("alice");
        let shown =
            Command::new("openssl").args(["x509", "-noout", "-text", "-in"]).arg(&file).output().unwrap();
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("Rejected Uses:") && shown.contains("Alias: revoked: "), "{list}: {shown}");
        // Mail waits, or is sealed with a warning; the checks name it.
        let test = admin.run(&["test", "alice"]);
        assert_eq!(test.status, Some(if fit { 0 } else { 75 }), "{list}: {}", test.stderr);
        assert_eq!(admin.run(&["check"]).status, Some(1), "{list}");
        // Enrolled again it is what it was, until the admin removes it.
        admin.configure(&trusting(&["inter.pem"], &[]));
        let added = admin.run(&["add", "alice", &chain("alice.pem"), "--replace"]);
        assert_eq!(added.status == Some(0), fit, "{list}: {added:?}");
    }
}

/// A list without it may be older than the one that it was on.
#[test]
fn no_list_takes_a_revocation_back() {
    for list in ["certificate-hold.crl", "key-compromise.crl", "superseded.crl"] {
        let admin = enrolled(&[list]);
        admin.run(&["refresh", "--crl"]);
        let enrolled = || fs::read(admin.path("keys/alice.pgp")).unwrap();
        let file = enrolled();
        admin.configure(&trusting(&["inter.pem"], &["clear.crl"]));
        let run = admin.run(&["refresh", "--crl"]);
        assert!(enrolled() == file, "{list}: {run:?}");
        // A list for some certificates or reasons proves nothing of the others.
        admin.configure(&trusting(&["inter.pem"], &["other-partition.crl"]));
        assert!(admin.run(&["refresh", "--crl"]).stderr.contains("no revocation list of CN=Inter"), "{list}");
    }
}

/// What is in `smime-ca` is trusted for itself, and no more than whoever has issued it leaves it.
#[test]
fn a_trusted_authority_that_its_root_has_revoked_is_trusted_no_more() {
    let admin = enrolled(&["clear.crl"]);
    admin.configure(&trusting(&["root.pem", "inter.pem"], &["root-revokes-inter.crl", "clear.crl"]));
    let refused = admin.run(&["add", "alice", &chain("alice.pem"), "--replace"]);
    assert!(refused.status != Some(0) && refused.stderr.contains("has revoked it"), "{refused:?}");
    // However many others are given with it.
    let refused = admin.run(&["add", "alice", &chain("alice.pem"), &chain("maze.pem"), "--replace"]);
    assert!(refused.status != Some(0), "{refused:?}");
    let run = admin.run(&["refresh", "--crl"]);
    assert_eq!(run.status, Some(1), "{run:?}");
    assert!(admin.run(&["show", "alice"]).said().contains("revoked"), "{run:?}");
}

#[test]
fn each_list_that_says_nothing_is_named_and_changes_nothing() {
    for (list, why) in [
        ("expired.crl", "it has expired: a newer one was due"),
        ("future.crl", "it was made in the future"),
        ("wrong-signer.crl", "it is not signed by CN=Inter"),
        ("sha224.crl", "it is not signed by CN=Inter"),
        ("truncated.crl", "it is broken"),
        ("alice.pem", "it holds no revocation list"),
        ("delta.crl", "a list of changes to another one"),
        ("indirect.crl", "a list for several authorities"),
        ("critical.crl", "a critical extension that is not known"),
        ("missing.crl", "there is no such file"),
    ] {
        let admin = enrolled(&[list]);
        let before = fs::read(admin.key_file("alice")).unwrap();
        let run = admin.run(&["refresh", "--crl"]);
        assert_eq!(run.status, Some(1), "{list}: {}", run.stderr);
        assert!(run.stderr.contains(why) && run.stdout.is_empty(), "{list}: {run:?}");
        assert!(
            run.stderr.contains("no revocation list of CN=Inter that holds is there"),
            "{list}: {}",
            run.stderr
        );
        assert!(fs::read(admin.key_file("alice")).unwrap() == before, "{list}");
        // Nor is anybody enrolled with such a list.
        let run = admin.run(&["add", "bob", &chain("alice.pem")]);
        assert!(run.status != Some(0) && run.stderr.contains(why), "{list}: {}", run.stderr);
        assert!(!admin.key_file("bob").exists(), "{list}");
    }
    let long = Admin::with(SOURCES);
    let path = long.write("long.crl", &vec![0x30; 1024 * 1024 + 1]);
    long.configure(&format!("{SOURCES}\nsmime-ca = [{:?}]\nsmime-crl = [{path:?}]", chain("root.pem")));
    let run = long.run(&["refresh", "--crl"]);
    assert!(
        run.status == Some(1) && run.stderr.contains("it is larger than 1048576 bytes"),
        "{}",
        run.stderr
    );
}

#[test]
fn whoever_is_revoked_is_not_enrolled() {
    let admin = Admin::with(&trusting(&["inter.pem", "root.pem"], &["superseded.crl"]));
    for (list, why) in [
        ("superseded.crl", "its authority has revoked it (superseded)"),
        ("key-compromise.crl", "its authority has revoked it (keyCompromise)"),
    ] {
        admin.configure(&trusting(&["inter.pem"], &[list]));
        let run = admin.run(&["add", "alice", &chain("alice.pem")]);
        run.assert_failed(list, 1);
        assert!(run.stderr.contains(why), "{list}: {}", run.stderr);
    }
    // The authority between is revoked by the root.
    admin.configure(&trusting(&["root.pem"], &["root-revokes-inter.crl", "clear.crl"]));
    let run = admin.run(&["add", "alice", &chain("alice.pem"), &chain("inter.pem")]);
    run.assert_failed("of the authority", 1);
    assert!(run.stderr.contains("its authority has revoked it (cACompromise)"), "{}", run.stderr);
    admin.configure(&trusting(&["root.pem"], &["root-clear.crl"]));
    let said = admin.run(&["add", "alice", &chain("alice.pem"), &chain("inter.pem")]).said();
    assert!(said.contains("warning: no list in `smime-crl` says whether CN=Inter has revoked it"), "{said}");
    // What stands between is not kept.
    let run = admin.run(&["refresh", "--crl"]);
    assert!(
        run.status == Some(1) && run.stderr.contains("name the certificate of its issuer"),
        "{}",
        run.stderr
    );
    admin.configure(&trusting(&["root.pem", "inter.pem"], &["clear.crl"]));
    assert_eq!(admin.run(&["refresh", "--crl"]).said(), "");
}

#[test]
fn lists_need_authorities() {
    let admin = enrolled(&[]);
    let run = admin.run(&["refresh", "--crl"]);
    run.assert_failed("no list", 64);
    admin.configure(&format!("{SOURCES}\nsmime-crl = [{:?}]", chain("clear.crl")));
    let run = admin.run(&["refresh", "--crl"]);
    run.assert_failed("no authority", 78);
    assert!(run.stderr.contains("nobody vouches"), "{}", run.stderr);
    admin.configure(SOURCES);
    admin.run(&["refresh", "--crl"]).assert_failed("no authority", 64);
}

/// Made by `openssl ca`, as an admin with an authority of the own has it.
#[test]
fn a_list_of_openssl_s_revokes() {
    let admin =
        Admin::with(&format!("{SOURCES}\nsmime-ca = [\"DIR/root.pem\"]\nsmime-crl = [\"DIR/root.crl\"]"));
    let folder = admin.path("");
    let openssl = Openssl(&folder);
    openssl.authorities();
    openssl.user("alice", "root");
    let authority = Authority(&openssl);
    authority.set_up(&admin);
    authority.publish("root.crl");
    admin.run(&["add", "alice", &path(&admin, "alice.pem")]).said();
    assert_eq!(admin.run(&["refresh", "--crl"]).said(), "");
    authority.revoke("alice", "keyCompromise");
    authority.publish("root.crl");
    let run = admin.run(&["refresh", "--crl", "alice"]);
    assert_eq!(run.status, Some(1), "{}", run.stderr);
    assert!(String::from_utf8_lossy(&run.stdout).contains("(keyCompromise)"), "{run:?}");
}

/// Answers each request for `/NAME` with the file `NAME` of a folder, until the test ends; its port.
#[cfg(feature = "network")]
fn serve(folder: &Path) -> u16 {
    use std::io::{BufRead as _, BufReader, Write as _};

    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = folder.to_owned();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            let name = first.split(' ').nth(1).unwrap().trim_start_matches('/');
            let (status, body) = match fs::read(folder.join(name)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(&[head.as_bytes(), &body].concat());
        }
    });
    port
}

#[cfg(feature = "network")]
#[test]
fn lists_are_fetched_from_where_certificates_say() {
    let admin = Admin::with(&format!("{SOURCES}\nsmime-ca = [\"DIR/root.pem\"]"));
    let folder = admin.path("");
    let (openssl, web) = (Openssl(&folder), admin.path("web"));
    fs::create_dir(&web).unwrap();
    let port = serve(&web);
    openssl.authorities();
    let points = format!(
        "crlDistributionPoints=URI:ldap://127.0.0.1/x,URI:http://127.0.0.1:{port}/gone.crl,URI:http://127.0.0.1:{port}/root.crl"
    );
    for (name, authority) in [("alice", "root"), ("bob", "root"), ("carol", "inter")] {
        openssl.user_with(name, authority, &points);
        admin.configure(SOURCES);
        admin.run(&["add", name, &path(&admin, &format!("{name}.pem"))]).said();
    }
    admin.configure(&format!("{SOURCES}\nsmime-ca = [\"DIR/root.pem\"]"));
    let refresh = |arguments: &[&str]| {
        let mut command = admin.command(&[&["refresh", "--crl-points"], arguments].concat());
        command.env("NO_PROXY", "127.0.0.1");
        testing::filter::run(&mut command, b"", 1)
    };
    // There is none yet; and nobody whose authority is not known is asked about.
    let run = refresh(&["alice"]);
    assert!(
        run.status == Some(1) && run.stderr.contains("root.crl: there is no revocation list"),
        "{}",
        run.stderr
    );
    let run = refresh(&["carol"]);
    assert!(run.status == Some(1) && !run.stderr.contains("root.crl"), "{}", run.stderr);
    let authority = Authority(&openssl);
    authority.set_up(&admin);
    authority.publish("web/root.crl");
    assert_eq!(refresh(&["alice", "bob"]).said(), "");
    authority.revoke("bob", "superseded");
    authority.publish("web/root.crl");
    let run = refresh(&["alice", "bob"]);
    assert!(run.status == Some(0) && run.stderr.is_empty(), "{}", run.stderr);
    assert!(String::from_utf8_lossy(&run.stdout).contains("of bob: revoked as superseded"), "{run:?}");
    assert_eq!(String::from_utf8_lossy(&run.stdout).lines().count(), 1, "{run:?}");
    // What a server says beyond the limit is not read, and what it says in its own name is not believed.
    for (content, why) in [
        (vec![b' '; 1024 * 1024 + 1], "root.crl"),
        (fs::read(file("chain/no-reason.crl")).unwrap(), "no revocation list of CN=Root"),
        (b"<html>".to_vec(), "it holds no revocation list"),
    ] {
        fs::write(web.join("root.crl"), content).unwrap();
        let run = refresh(&["alice"]);
        assert!(run.status == Some(1) && run.stderr.contains(why), "{why}: {}", run.stderr);
        assert!(run.stdout.is_empty(), "{why}: {run:?}");
    }
}
