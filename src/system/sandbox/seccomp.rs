//! Edge: seccomp (seccomp(2)): a short list of system calls; every other one fails with `EPERM`.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter_all_threads,
};

/// Calls that are allowed whatever their arguments: on descriptors that are open, on the process's own memory and
/// threads, and what reads clocks and random octets.
///
/// `statx` and its kin take paths as well, which a filter cannot see: they tell of a file that it is there, never what is
/// in it.
const ALLOWED: &[libc::c_long] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_splice,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_newfstatat,
    libc::SYS_fcntl,
    libc::SYS_ppoll,
    libc::SYS_close,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_rseq,
    libc::SYS_sigaltstack,
    // Without it a fault that a handler has seen is met again and again, and the process never ends.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_restart_syscall,
    // Refused by the other filter.
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
];

/// What a resident process needs beside: connections, and files to read.
pub const RESIDENT: &[libc::c_long] = &[
    libc::SYS_accept4,
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_openat,
    libc::SYS_getdents64,
    libc::SYS_readlinkat,
    libc::SYS_fgetxattr,
    libc::SYS_getxattr,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_unlinkat,
    libc::SYS_pread64,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_prlimit64,
    libc::SYS_prctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
];

/// Installs the filter for all threads of the process, which allows `more` as well.
///
/// # Errors
/// What is missing, as a sentence.
pub fn restrict(more: &[libc::c_long]) -> Result<(), String> {
    let failed = |error: seccompiler::Error| format!("seccomp: {error}");
    let arch: TargetArch = std::env::consts::ARCH
        .try_into()
        .map_err(|_| String::from("seccomp: no filter for this processor"))?;
    // The longer one last: it forbids more filters.
    for filter in [without_clone3(arch), allow_list(arch, more)] {
        let filter = filter.map_err(|error| failed(error.into()))?;
        apply_filter_all_threads(&filter).map_err(failed)?;
    }
    Ok(())
}

/// Whether the kernel has filters whose answer is an error. To install one would bind the whole process.
///
/// # Errors
/// What is missing, as a sentence.
pub fn is_there() -> Result<(), String> {
    const ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";
    match std::fs::read_to_string(ACTIONS) {
        Ok(actions) if actions.split_whitespace().any(|action| action == "errno") => Ok(()),
        Ok(_) => Err("the kernel's seccomp does not know the answer \"errno\"".into()),
        Err(error) => Err(format!("the kernel has no seccomp ({ACTIONS}: {error})")),
    }
}

fn allow_list(arch: TargetArch, more: &[libc::c_long]) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().chain(more).map(|call| (*call, Vec::new())).collect();
    // Threads, but no processes.
    rules.insert(libc::SYS_clone, vec![only_with(0, libc::CLONE_THREAD as u64, libc::CLONE_THREAD as u64)?]);
    // Signals to itself, as abort(3) sends one.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![only_with(0, u64::from(u32::MAX), own)?]);
    // Memory, but none that can be run.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        rules.insert(call, vec![only_with(2, libc::PROT_EXEC as u64, 0)?]);
    }
    // Whether a descriptor is a terminal.
    rules.insert(libc::SYS_ioctl, vec![only_with(1, u64::from(u32::MAX), libc::TCGETS)?]);
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?.try_into()
}

/// `clone3` keeps its flags where no filter sees them. Where it does not exist, libc takes `clone`.
///
/// A filter of its own, because it has another answer.
fn without_clone3(arch: TargetArch) -> Result<BpfProgram, seccompiler::BackendError> {
    let rules = [(libc::SYS_clone3, Vec::new())].into_iter().collect();
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, missing, arch)?.try_into()
}

/// The argument at `index`, counted from 0, has in the bits of `mask` this `value`.
fn only_with(index: u8, mask: u64, value: u64) -> Result<SeccompRule, seccompiler::BackendError> {
    let condition =
        SeccompCondition::new(index, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(mask), value)?;
    SeccompRule::new(vec![condition])
}
