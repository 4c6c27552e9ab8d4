//! `mailseal keys refresh` through a proxy on this host, whose name service notes who asks it: the names are looked up by a SOCKS proxy
//! and by nobody else, and a proxy that would not be used is refused before anything is asked.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;
use testing::made;

use super::wkd::{HOST, advanced, direct, server, stored, told};

/// A name service that knows nothing, and a SOCKS 5 proxy that finds `example.org` and the names in `found`, all of them here. Both
/// note what they were asked.
const PROXY: &str = r#"
import os, socket, struct, threading
def note(name, text):
    with open(name, "a") as file:
        file.write(text + "\n")
names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
names.bind(("127.0.0.1", 53))
def answer():
    while True:
        query, sender = names.recvfrom(4096)
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        note("looked-up", ".".join(labels))
        # There is no such name.
        names.sendto(query[:2] + b"\x81\x83" + query[4:6] + bytes(6) + query[12:at + 5], sender)
def take(client, count):
    data = b""
    while len(data) < count:
        piece = client.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
def pump(source, sink):
    while data := source.recv(65536):
        sink.sendall(data)
    sink.shutdown(socket.SHUT_WR)
def serve(client):
    version, count = take(client, 2)
    take(client, count)
    client.sendall(b"\x05\x00")
    version, command, _, kind = take(client, 4)
    if kind == 3:
        host = take(client, take(client, 1)[0]).decode()
    else:
        host = "address " + socket.inet_ntoa(take(client, 4))
    port, = struct.unpack(">H", take(client, 2))
    note("proxied", host)
    refused = open("refuses").read().strip() if os.path.exists("refuses") else ""
    if refused:
        client.sendall(bytes([5, int(refused), 0, 1]) + bytes(6))
        return client.close()
    if host not in ["example.org"] + open("found").read().split():
        client.sendall(b"\x05\x04\x00\x01" + bytes(6))
        return client.close()
    server = socket.create_connection(("127.0.0.1", port))
    client.sendall(b"\x05\x00\x00\x01" + bytes(6))
    threading.Thread(target=pump, args=(client, server), daemon=True).start()
    pump(server, client)
threading.Thread(target=answer, daemon=True).start()
door = socket.create_server(("127.0.0.1", 1080))
open("proxy.ready", "w").close()
while True:
    threading.Thread(target=serve, args=(door.accept()[0],), daemon=True).start()
"#;

/// Asks that name service, and nobody else.
const WITH_DNS: &str = r#"
printf 'hosts: dns\n' > with-dns; mount --bind with-dns /etc/nsswitch.conf
printf 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n' > resolv.conf; mount --bind resolv.conf /etc/resolv.conf
exec "$@"
"#;

/// That host with what it publishes at `page`, where alice's certificate expires tomorrow, and with `found` beside `example.org`.
fn host(page: &str, found: &str) -> Option<TempDir> {
    let old = made::expires_in("alice@example.org", made::DAY);
    let dir = server("", page, &made::public(&made::lasting(old.clone())))?;
    for (name, content) in [("proxy.py", PROXY), ("found", found), ("looked-up", ""), ("proxied", "")] {
        fs::write(dir.path().join(name), content).unwrap();
    }
    fs::write(dir.path().join("keys/alice@example.org.pgp"), made::public(&old)).unwrap();
    Some(dir)
}

fn refresh(dir: &TempDir, variables: &[(&str, &str)], how: &[&str]) -> Output {
    let _ = fs::remove_file(dir.path().join("proxy.ready"));
    let mut command = Command::new("unshare");
    command.args(["-nm", "sh", "-c", HOST, "host", "sh", "-euc", WITH_DNS, "asks"]);
    command
        .arg(testing::program("mailseal"))
        .args(["--config", "mailseal.toml", "keys", "refresh"])
        .args(how);
    for name in ["ALL_PROXY", "all_proxy", "HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"] {
        command.env_remove(name);
    }
    command.envs(variables.iter().copied()).current_dir(dir).output().unwrap()
}

fn lines(dir: &Path, name: &str) -> Vec<String> {
    fs::read_to_string(dir.join(name)).unwrap().lines().map(str::to_owned).collect()
}

const TOR: (&str, &str) = ("ALL_PROXY", "socks5h://127.0.0.1:1080");
const BY_HKP: [&str; 2] = ["--keyserver", "hkps://example.org"];

#[test]
fn a_socks_proxy_looks_up_the_names_and_this_machine_none() {
    // The advanced method, where its host is found; the direct one, where the proxy says that there is none.
    for (page, found) in [(advanced(), "openpgpkey.example.org"), (direct(), "")] {
        let Some(dir) = host(&page, found) else { return };
        let (text, status) = told(&refresh(&dir, &[TOR], &["--wkd"]));
        assert!(status == Some(0) && text.contains("refreshed"), "{found}: {text}");
        let mut asked = vec!["openpgpkey.example.org"];
        asked.extend(found.is_empty().then_some("example.org"));
        assert_eq!(lines(dir.path(), "proxied"), asked);
        assert_eq!(lines(dir.path(), "looked-up"), [""; 0], "a name was looked up beside the proxy");
    }
}

#[test]
fn a_proxy_that_fails_is_a_failure_and_nothing_is_asked_beside_it() {
    let Some(dir) = host(&direct(), "") else { return };
    let before = fs::read(dir.path().join("keys/alice@example.org.pgp")).unwrap();
    // A general failure, not allowed, connection refused: none of them says that there is no such host.
    for reply in ["1", "2", "5"] {
        fs::write(dir.path().join("refuses"), reply).unwrap();
        let (text, status) = told(&refresh(&dir, &[TOR], &["--wkd"]));
        assert!(status == Some(1) && text.contains("it is tried again the next time"), "{reply}: {text}");
    }
    // Nobody listens at that port.
    let nobody = ("ALL_PROXY", "socks5h://127.0.0.1:1081");
    let (text, status) = told(&refresh(&dir, &[nobody], &["--wkd"]));
    assert!(status == Some(1) && text.contains("it is tried again the next time"), "{text}");
    assert_eq!(
        lines(dir.path(), "proxied"),
        ["openpgpkey.example.org"; 3],
        "the direct method was not asked"
    );
    assert_eq!(lines(dir.path(), "looked-up"), [""; 0]);
    assert_eq!(fs::read(dir.path().join("keys/alice@example.org.pgp")).unwrap(), before);
}

#[test]
fn a_proxy_that_leaks_names_or_is_not_understood_is_refused() {
    let Some(dir) = host(&direct(), "") else { return };
    for (value, why) in
        [("socks5://127.0.0.1:1080", "look up names"), ("sock5h://x:secret@h", "not understood")]
    {
        for how in [&["--wkd"][..], &BY_HKP] {
            let (text, status) = told(&refresh(&dir, &[("ALL_PROXY", value)], how));
            assert!(status == Some(64) && text.contains(why) && !text.contains("secret"), "{value}: {text}");
        }
    }
    for asked in ["proxied", "looked-up"] {
        assert_eq!(lines(dir.path(), asked), [""; 0]);
    }
    // Without a proxy it does look names up, and that would have been seen.
    let (text, status) = told(&refresh(&dir, &[], &BY_HKP));
    assert_eq!(status, Some(1), "{text}");
    assert!(lines(dir.path(), "looked-up").iter().all(|name| name == "example.org"), "{text}");
    assert!(!lines(dir.path(), "looked-up").is_empty());
    // So it does for a host that NO_PROXY excepts.
    fs::write(dir.path().join("looked-up"), "").unwrap();
    let (_, status) = told(&refresh(&dir, &[TOR, ("NO_PROXY", "example.org")], &BY_HKP));
    assert!(
        status == Some(1)
            && lines(dir.path(), "proxied").is_empty()
            && !lines(dir.path(), "looked-up").is_empty()
    );
}

#[test]
fn a_keyserver_is_asked_through_a_socks_proxy() {
    let Some(dir) = host("none", "") else { return };
    let old = stored(&dir);
    let page = format!("pks/lookup?op=get&options=mr&search=0x{}", old.fingerprint().to_hex());
    let path = dir.path().join("web").join(page);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::rename(dir.path().join("web/none"), path).unwrap();
    let (text, status) = told(&refresh(&dir, &[TOR], &BY_HKP));
    assert!(status == Some(0) && text.contains("refreshed"), "{text}");
    assert_eq!(lines(dir.path(), "proxied"), ["example.org"]);
    assert_eq!(lines(dir.path(), "looked-up"), [""; 0]);
}
