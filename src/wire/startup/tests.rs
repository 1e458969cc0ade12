//! First packets, good and bad.

use super::*;
use proptest::prelude::*;

fn packet(code: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).expect("test packets are short");
    [&length.to_be_bytes()[..], &code.to_be_bytes()[..], body].concat()
}

#[test]
fn a_startup_packet_names_user_and_database() {
    let packet = packet(0x0003_0000, b"user\0anna\0database\0shop\0\0");
    let Ok(First::Startup(startup)) = parse(&packet) else {
        panic!("not a start-up packet")
    };
    assert_eq!((startup.user(), startup.database()), ("anna", "shop"));
    assert_eq!(startup.packet(), packet);
}

#[test]
fn the_database_defaults_to_the_user() {
    let Ok(First::Startup(startup)) = parse(&packet(0x0003_0002, b"user\0anna\0\0")) else {
        panic!("not a start-up packet")
    };
    assert_eq!(startup.database(), "anna");
}

#[test]
fn what_was_settled_is_taken_out_of_the_packet() {
    let body = b"user\0anna\0_pq_.a\0on\0options\0\xe9\0_pq_.b\0\0\0";
    let Ok(First::Startup(startup)) = parse(&packet(0x0003_270f, body)) else {
        panic!("not a start-up packet")
    };
    assert_eq!((startup.minor(), startup.spoken_minor()), (9999, 2));
    assert_eq!(startup.protocol_options(), ["_pq_.a", "_pq_.b"]);
    let settled = packet(0x0003_0002, b"user\0anna\0options\0\xe9\0\0");
    assert_eq!(startup.settled_packet(), settled);
}

#[test]
fn a_packet_with_nothing_to_settle_stays_as_it_is() {
    for version in [0x0003_0000, 0x0003_0002] {
        let packet = packet(version, b"user\0anna\0database\0\0options\0-c a=b\0\0");
        let Ok(First::Startup(startup)) = parse(&packet) else {
            panic!("not a start-up packet")
        };
        assert_eq!(startup.settled_packet(), packet);
    }
}

#[test]
fn names_are_cut_where_the_server_cuts_them() {
    let (long, cut) = ("n".repeat(70), "n".repeat(63));
    for (body, user, database) in [
        (format!("user\0{long}\0\0"), cut.as_str(), cut.as_str()),
        (format!("user\0u\0database\0{long}\0\0"), "u", &cut),
        (format!("user\0u\0database\0{cut}\0\0"), "u", &cut),
    ] {
        let Ok(First::Startup(startup)) = parse(&packet(0x0003_0000, body.as_bytes())) else {
            panic!("not a start-up packet")
        };
        assert_eq!((startup.user(), startup.database()), (user, database));
    }
}

#[test]
fn bad_packets_say_what_is_wrong() {
    let cases: &[(u32, &[u8], BadPacket)] = &[
        (0x0003_0000, b"user\0anna\0", BadPacket::Layout),
        (0x0003_0000, b"user\0anna\0\0tail", BadPacket::Layout),
        (0x0003_0000, b"database\0shop\0\0", BadPacket::NoUser),
        (0x0002_0000, b"user\0anna\0\0", BadPacket::Version(2, 0)),
        (CANCEL_REQUEST, b"\0\0\0\x01abc", BadPacket::Length),
        (SSL_REQUEST, b"x", BadPacket::Length),
    ];
    for (code, body, expected) in cases {
        assert_eq!(
            parse(&packet(*code, body)),
            Err(*expected),
            "{code:#x} {body:?}"
        );
    }
}

#[test]
fn a_secret_never_shows_in_a_debug_text() {
    let key = CancelKey {
        pid: 7,
        secret: (*b"very secret").into(),
    };
    assert!(!format!("{key:?}").contains("very"));
}

fn startup(body: &[u8]) -> Startup {
    match parse(&packet(0x0003_0002, body)) {
        Ok(First::Startup(startup)) => startup,
        other => panic!("not a start-up packet: {other:?}"),
    }
}

#[test]
fn a_changed_parameter_leaves_the_bytes_of_all_others() {
    let original = startup(
        b"user\0\xe9va\0application_name\0a\0\xff\0\0_pq_.x\0\x01\0application_name\0b\xe9\0\0",
    );
    assert_eq!(
        original.parameter_bytes("application_name"),
        Some(&b"b\xe9"[..])
    );
    let changed = original
        .with_parameter("application_name", b"b\xe9 - x")
        .expect("short");
    assert_eq!(
        changed.packet(),
        packet(
            0x0003_0002,
            b"user\0\xe9va\0\xff\0\0_pq_.x\0\x01\0application_name\0b\xe9 - x\0\0"
        )
    );
    let added = startup(b"user\0anna\0\0").with_parameter("application_name", b"x");
    let added = added.expect("short");
    assert_eq!(
        added.packet(),
        packet(0x0003_0002, b"user\0anna\0application_name\0x\0\0")
    );
    assert_eq!(added.parameter("application_name"), Some("x"));
}

#[test]
fn a_packet_that_no_server_takes_is_not_made() {
    let almost = [b"user\0", vec![b'x'; PACKET_MAX - 16].as_slice(), b"\0\0"].concat();
    let original = startup(&almost);
    assert_eq!(original.packet().len(), PACKET_MAX - 1);
    assert_eq!(original.with_parameter("application_name", b"x"), None);
    assert_eq!(
        startup(b"user\0a\0\0").with_parameter("application_name", b"a\0b"),
        None
    );
}

#[test]
fn replication_is_read_as_the_server_does() {
    let physical = ["true", "TRUE", "t", "tRu", "y", "yes", "on", "ON", "1"];
    let none = [
        "", "false", "off", "0", "no", "o", "11", "trueish", "Database", "2", "of",
    ];
    let asked = |value: &str| {
        startup(format!("user\0a\0replication\0{value}\0\0").as_bytes()).replication()
    };
    for value in physical {
        assert_eq!(asked(value), Some(Replication::Physical), "{value}");
    }
    for value in none {
        assert_eq!(asked(value), None, "{value}");
    }
    assert_eq!(asked("database"), Some(Replication::Logical));
    assert_eq!(
        asked("database\0replication\0on"),
        Some(Replication::Logical)
    );
    assert_eq!(asked("database\0replication\0off"), None);
    assert_eq!(startup(b"user\0a\0\0").replication(), None);
}

proptest! {
    #[test]
    fn a_changed_parameter_is_the_only_change(
        pairs in prop::collection::vec(("[a-c]{1,3}", prop::collection::vec(1..=255_u8, 0..9)), 0..9),
        value in prop::collection::vec(1..=255_u8, 0..9),
    ) {
        let mut body = b"user\0anna\0".to_vec();
        for (name, value) in &pairs {
            body.extend([name.as_bytes(), b"\0", value, b"\0"].concat());
        }
        body.push(0);
        let original = startup(&body);
        let changed = original.with_parameter("b", &value).expect("short");
        prop_assert_eq!(changed.parameter_bytes("b"), Some(&value[..]));
        let others = |startup: &Startup| -> Vec<(Vec<u8>, Vec<u8>)> {
            let others = startup.pairs().filter(|(name, _)| *name != b"b");
            others.map(|(name, value)| (name.to_vec(), value.to_vec())).collect()
        };
        prop_assert_eq!(others(&changed), others(&original));
    }

    #[test]
    fn no_packet_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_parameters_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&packet(0x0003_0000, &body));
    }
}
