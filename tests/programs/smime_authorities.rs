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
        self.run(&format!(
            "req -new -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name} \
             -addext subjectAltName=email:{name}@example.org -addext keyUsage=critical,digitalSignature,keyEncipherment \
             -addext extendedKeyUsage=emailProtection -addext basicConstraints=critical,CA:FALSE"
        ));
        self.run(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -days 300 -copy_extensions copy -out {name}.pem"
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
