use super::*;
use proptest::prelude::*;

const SMALL: Limits = Limits { max_bytes: 4 << 20, max_ratio: 1000 };

fn codecs() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|codec| *codec != Compression::None)
}

#[test]
fn names_and_ids_lead_back_to_their_codec() {
    for codec in Compression::ALL {
        assert_eq!(codec.to_string().parse(), Ok(codec));
        assert_eq!(Compression::from_id(codec.id()), Some(codec));
    }
    assert!("brotli".parse::<Compression>().is_err());
    assert_eq!(Compression::from_id(5), None);
}

#[test]
fn a_bomb_of_any_codec_is_found_before_it_goes_off() {
    let zeros = vec![0; 32 << 20];
    for codec in codecs() {
        let bomb = codec.compress(&zeros).unwrap();
        let absolute = Limits { max_bytes: 1 << 20, max_ratio: usize::MAX };
        assert_eq!(
            codec.decompress(&bomb, absolute),
            Err(BatchError::Bomb { limit: 1 << 20 }),
            "{codec}"
        );
        let ratio = Limits { max_bytes: usize::MAX >> 1, max_ratio: 10 };
        assert_eq!(
            codec.decompress(&bomb, ratio),
            Err(BatchError::Bomb { limit: (bomb.len() * 10).max(1 << 20) }),
            "{codec}"
        );
        let enough = Limits { max_bytes: 32 << 20, max_ratio: usize::MAX };
        assert_eq!(codec.decompress(&bomb, enough).unwrap().len(), 32 << 20, "{codec}");
    }
}

#[test]
fn a_snappy_block_that_claims_four_gigabytes_allocates_nothing() {
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    assert_eq!(
        Compression::Snappy.decompress(&claim, SMALL),
        Err(BatchError::Bomb { limit: 1 << 20 })
    );
}

#[test]
fn a_zstd_frame_that_asks_for_a_window_beyond_the_limits_is_refused() {
    // Magic, descriptor without single-segment, window descriptor 2^31, a raw last block of one byte.
    let greedy = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3, 0x09, 0x00, 0x00, 0x00];
    let refused = Compression::Zstd.decompress(&greedy, SMALL).unwrap_err();
    assert!(matches!(refused, BatchError::BadCompression { .. }), "{refused}");
    let modest = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0, 0x09, 0x00, 0x00, 0x07];
    assert_eq!(Compression::Zstd.decompress(&modest, SMALL).unwrap()[..], [7]);
}

#[test]
fn a_payload_that_is_cut_off_or_has_a_tail_is_refused() {
    let text = b"the same words, the same words, the same words".repeat(40);
    for codec in codecs() {
        let packed = codec.compress(&text).unwrap();
        for end in 1..packed.len() {
            assert!(codec.decompress(&packed[..end], SMALL).is_err(), "{codec} cut at {end}");
        }
        let with_tail = [&packed[..], &[1]].concat();
        assert!(codec.decompress(&with_tail, SMALL).is_err(), "{codec} with a tail");
    }
}

proptest! {
    #[test]
    fn what_is_packed_unpacks_to_itself(bytes in prop::collection::vec(any::<u8>(), 0..3000), repeat in 1..40usize) {
        let bytes = bytes.repeat(repeat);
        for codec in Compression::ALL {
            let packed = codec.compress(&bytes).unwrap();
            prop_assert_eq!(&codec.decompress(&packed, SMALL).unwrap()[..], &bytes[..]);
        }
    }

    #[test]
    fn pieces_are_together_what_is_unpacked_at_once(bytes in prop::collection::vec(any::<u8>(), 1..3000), repeat in 1..40usize, cut in any::<prop::sample::Index>()) {
        let bytes = bytes.repeat(repeat);
        for codec in Compression::ALL {
            let packed = codec.compress(&bytes).unwrap();
            for packed in [&packed[..], &packed[..cut.index(packed.len())]] {
                let mut joined = Vec::new();
                let unpacked = codec.unpack(packed, SMALL, |piece| {
                    assert!(piece.len() <= PIECE_BYTES || matches!(codec, Compression::None | Compression::Snappy));
                    joined.extend_from_slice(piece);
                    Ok(())
                });
                let at_once = codec.decompress(packed, SMALL);
                prop_assert_eq!(unpacked.map(|()| Bytes::from(joined)), at_once, "{}", codec);
            }
        }
    }

    #[test]
    fn bytes_at_random_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), flips in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 1..4)) {
        for codec in codecs() {
            let _ = codec.decompress(&bytes, SMALL);
            let mut packed = codec.compress(&bytes).unwrap().to_vec();
            for (at, flip) in &flips {
                let at = at.index(packed.len());
                packed[at] ^= flip;
            }
            if let Ok(unpacked) = codec.decompress(&packed, SMALL) {
                prop_assert!(unpacked.len() <= SMALL.max_bytes);
            }
        }
    }
}
