//! A network of the test's own: machines that have nothing but their addresses of their own (network namespaces).

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};

use crate::skip;

/// A machine of the network. It ends when nothing runs on it any more and it is dropped.
pub struct Machine {
    namespace: File,
}

/// Whether there can be such machines here; a visible line where not.
pub fn can_run() -> bool {
    let there = nix::unistd::geteuid().is_root() && Command::new("ip").arg("-V").output().is_ok();
    if !there {
        skip::unless_ci("network namespaces need root and iproute2");
    }
    there
}

impl Machine {
    /// One that reaches only itself.
    pub fn new() -> Self {
        // What a thread leaves behind goes with it.
        let made = std::thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            ip("link set lo up");
            Self { namespace: current() }
        });
        made.join().unwrap()
    }

    /// A cable to `other`: the two have these addresses, of one network of 256.
    pub fn connect(&self, own: Ipv4Addr, other: &Self, others: Ipv4Addr) {
        let [.., number, _] = own.octets();
        let there = format!("/proc/{}/fd/{}", std::process::id(), other.namespace.as_raw_fd());
        self.within(|| {
            ip(&format!("link add net{number} type veth peer name net{number} netns {there}"));
            bring_up(number, own);
        });
        other.within(|| bring_up(number, others));
    }

    /// Does `work` on it; the processes and threads that `work` starts stay there.
    pub fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _back = Back(current());
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).unwrap();
        work()
    }
}

/// Takes the thread back to where it was.
struct Back(File);

impl Drop for Back {
    fn drop(&mut self) {
        setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

fn current() -> File {
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn bring_up(number: u8, address: Ipv4Addr) {
    ip(&format!("address add {address}/24 dev net{number}"));
    ip(&format!("link set net{number} up"));
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
