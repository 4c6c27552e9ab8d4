//! User databases that Dovecot asks after the site's own: the shipped examples, over a real sqlite and a real slapd.

use super::server::wait_until;
use super::site::{Site, free_port};
use super::users::{ALICE, BOB, DELIVERY_GROUP, DELIVERY_USER};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

/// A user whose settings are in the database.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    /// The name.
    pub user: &'a str,
    /// The key file, if one is set.
    pub key: Option<&'a str>,
    /// How headers are protected, if that is set.
    pub protect_headers: Option<&'a str>,
    /// Whether sealing is switched off.
    pub off: bool,
}

/// Puts the passwd-file example in the place of the site's users: Alice and Bob, with settings of their own.
pub fn passwd_file(site: &Site) {
    let users = example(&format!("passwd-file-{}.users", version(site)))
        .replace(":5000:5000:", &format!(":{DELIVERY_USER}:{DELIVERY_GROUP}:"))
        .replace("/srv/mail/alice", site.home(ALICE).to_str().unwrap())
        .replace("/srv/mail/bob", site.home(BOB).to_str().unwrap());
    site.write("users", users.as_bytes(), 0o644);
}

/// Lays out the SQL example: a table of `rows` and the settings to add to Dovecot's.
pub fn sql(site: &Site, rows: &[Row<'_>]) -> String {
    let quote = |value: Option<&str>| value.map_or_else(|| "NULL".to_owned(), |value| format!("'{value}'"));
    let mut statements = example("users.sql");
    for row in rows {
        statements += &format!(
            "INSERT INTO users VALUES ('{}', '{}', {DELIVERY_USER}, {DELIVERY_GROUP}, {}, {}, '{}');\n",
            row.user,
            site.home(row.user).display(),
            quote(row.key),
            quote(row.protect_headers),
            if row.off { "off" } else { "on" }
        );
    }
    site.write("users.sql", statements.as_bytes(), 0o644);
    let read = format!(".read {}", site.path("users.sql").display());
    let made = Command::new("sqlite3").arg(site.path("users.sqlite")).arg(read).status().unwrap();
    assert!(made.success());
    let places = [("/etc/dovecot/", site.path("").display().to_string())];
    settings(site, "sql", &places)
}

/// Starts a directory with `rows` in it; the settings to add to Dovecot's are in it, too.
pub fn ldap(site: &Site, rows: &[Row<'_>]) -> Directory {
    let address = SocketAddr::from((site.address, free_port(site.address)));
    fs::create_dir(site.path("ldap")).unwrap();
    let shipped = crate::repository().join("sieve/userdb/mailseal.schema");
    let configuration = format!(
        "\
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
include {}
modulepath /usr/lib/ldap
moduleload back_mdb
database mdb
suffix dc=example,dc=org
directory {}
",
        shipped.display(),
        site.path("ldap").display()
    );
    site.write("slapd.conf", configuration.as_bytes(), 0o644);
    let mut entries = "dn: dc=example,dc=org\nobjectClass: domain\ndc: example\n\n\
        dn: ou=people,dc=example,dc=org\nobjectClass: organizationalUnit\nou: people\n\n"
        .to_owned();
    for row in rows {
        entries += &format!(
            "dn: mail={user},ou=people,dc=example,dc=org\nobjectClass: inetOrgPerson\nobjectClass: posixAccount\n\
             objectClass: mailsealUser\nmail: {user}\nuid: {user}\ncn: x\nsn: x\nuidNumber: {DELIVERY_USER}\n\
             gidNumber: {DELIVERY_GROUP}\nhomeDirectory: {home}\n",
            user = row.user,
            home = site.home(row.user).display()
        );
        entries.extend(row.key.map(|key| format!("mailsealKey: {key}\n")));
        entries.extend(row.protect_headers.map(|headers| format!("mailsealProtectHeaders: {headers}\n")));
        entries.extend(row.off.then_some("mailsealOff: on\n"));
        entries.push('\n');
    }
    site.write("entries.ldif", entries.as_bytes(), 0o644);
    let mut add = Command::new("/usr/sbin/slapadd");
    add.arg("-f").arg(site.path("slapd.conf")).arg("-l").arg(site.path("entries.ldif"));
    let added = add.output().unwrap();
    assert!(added.status.success(), "{}", String::from_utf8_lossy(&added.stderr));
    let mut slapd = Command::new("setpriv");
    slapd.args(["--pdeathsig", "TERM", "/usr/sbin/slapd", "-d", "0", "-f"]).arg(site.path("slapd.conf"));
    let slapd = slapd.args(["-h", &format!("ldap://{address}")]).stderr(Stdio::null()).spawn().unwrap();
    let places = [
        ("/etc/dovecot/", site.path("").display().to_string()),
        ("ldap://127.0.0.1", format!("ldap://{address}")),
    ];
    let directory = Directory { slapd, settings: settings(site, "ldap", &places) };
    wait_until("slapd to listen", || TcpStream::connect(address).is_ok());
    directory
}

/// A running slapd; dropped, it is stopped.
pub struct Directory {
    slapd: Child,
    /// The settings that make Dovecot ask it.
    pub settings: String,
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = self.slapd.kill();
        let _ = self.slapd.wait();
    }
}

/// The example's settings; what 2.3 keeps in a file beside them is written there.
fn settings(site: &Site, name: &str, places: &[(&str, String)]) -> String {
    let version = version(site);
    let with_places = |mut text: String| {
        for (installed, here) in places {
            text = text.replace(installed, here);
        }
        text
    };
    let beside = format!("{name}-{version}.conf.ext");
    if crate::repository().join("sieve/userdb").join(&beside).exists() {
        site.write(&beside, with_places(example(&beside)).as_bytes(), 0o644);
    }
    with_places(example(&format!("{name}-{version}.conf")))
}

fn version(site: &Site) -> &'static str {
    site.flavour.version().trim_end_matches('.')
}

fn example(name: &str) -> String {
    fs::read_to_string(crate::repository().join("sieve/userdb").join(name)).unwrap()
}
