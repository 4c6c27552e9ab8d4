//! The writer's buffers: messages of every size near each border, in every compression, opened by GnuPG and rPGP; and
//! what was damaged on the way, refused by both.

use testing::{
    filter::{filter, in_pieces},
    jobs,
    openers::{self, GnuPg},
    oracle::{check_outside, check_run, key},
};

/// Octets of the buffers: a line of armor, what is encoded at once, a partial body and a window, what is read and written
/// at once, and the look-ahead.
const BUFFERS: [usize; 5] = [48, 12 * 1024, 16 * 1024, 64 * 1024, 1024 * 1024];

/// A message with a body of `size` bytes that looks like an attachment or like a text.
fn message(size: usize, attachment: bool) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    let mut body: Vec<u8> = (0..size)
        .map(|at| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if at % 77 == 76 {
                b'\n'
            } else if attachment {
                b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"[(state >> 26) as usize]
            } else {
                b"the canary sings at noon, and at night "[(state >> 28) as usize + at % 20]
            }
        })
        .collect();
    let mut message = b"Subject: canary\nContent-Type: text/plain\n\n".to_vec();
    message.append(&mut body);
    message
}

#[test]
fn every_size_near_a_border_opens() {
    let gnupg = GnuPg::new();
    let near = |border: usize| (0..3).map(move |step| (border + step).saturating_sub(1));
    let borders = BUFFERS.iter().flat_map(|size| (1..=3).map(move |times| times * size));
    // Headers of packets and of the entity lie between the body's end and the borders of the layers.
    let sizes = borders.flat_map(|border| near(border).chain(near(border.saturating_sub(90))));
    let jobs: Vec<(usize, &str)> =
        sizes.chain([0]).flat_map(|size| ["auto", "none", "zlib:1"].map(|how| (size, how))).collect();
    jobs::all(
        &jobs,
        |(size, how)| format!("{size} bytes, {how}"),
        |(size, how)| {
            let message = message(*size, size % 2 == 0);
            let run = filter(&key("curve25519"), &["--compression", how], &message);
            check_run(&message, &run, "curve25519", Some(&gnupg)).map(drop)
        },
    );
}

#[test]
fn pieces_of_one_byte_give_the_same() {
    let message = message(40_000, true);
    let run = in_pieces(&key("curve25519"), &[], &message, 1);
    check_run(&message, &run, "curve25519", Some(&GnuPg::new())).unwrap();
}

/// GnuPG gets the octets without their armor, whose checksum would notice before the ciphertext does.
#[test]
fn damage_is_refused() {
    let gnupg = GnuPg::new();
    let message = message(30_000, true);
    for how in ["auto", "none"] {
        let run = filter(&key("curve25519"), &["--compression", how], &message);
        let sealed = check_outside(&message, &run.stdout).unwrap();
        let armor = String::from_utf8(sealed.armor.to_vec()).unwrap();
        let lines = armor.lines().filter(|line| !line.starts_with(['-', '=']));
        let octets = base64_simd::STANDARD.decode_to_vec(lines.collect::<String>()).unwrap();
        let armored = |octets: &[u8]| {
            let lines = octets.chunks(48).map(|line| base64_simd::STANDARD.encode_to_string(line) + "\n");
            format!("-----BEGIN PGP MESSAGE-----\n\n{}-----END PGP MESSAGE-----\n", lines.collect::<String>())
        };
        let gnupg_opens = |octets: &[u8]| gnupg.decrypt(octets).is_ok();
        let rpgp_opens = |octets: &[u8]| openers::rpgp("curve25519", armored(octets).as_bytes()).is_ok();
        assert!(gnupg_opens(&octets) && rpgp_opens(&octets));

        // Behind the session key, in the middle, in the Modification Detection Code.
        for at in [150, octets.len() / 2, octets.len() - 10, octets.len() - 1] {
            let mut flipped = octets.clone();
            flipped[at] ^= 1;
            for (what, damaged) in [("a flipped bit", &flipped[..]), ("a cut", &octets[..at])] {
                assert!(!gnupg_opens(damaged), "GnuPG takes a message with {what} at {at}, {how}");
                assert!(!rpgp_opens(damaged), "rPGP takes a message with {what} at {at}, {how}");
            }
        }
    }
}
