  ;; --- memory: a call's allocations live until it answers -----------------------------------
  ;; The canonical ABI resizes only what it allocated last, so that stays where it is. Behind every
  ;; allocation there is a spare page (64 KiB); pages are counted up, so that nothing overflows.
  (func $allocate (export "cabi_realloc")
    (param $old i32) (param $old_size i32) (param $align i32) (param $size i32) (result i32)
    (local $pages i32)
    (if (i32.eqz (local.get $old))
      (then
        (local.set $old (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))))
    (local.set $pages                                      ;; how many are missing
      (i32.sub
        (i32.add
          (i32.add (i32.shr_u (local.get $old) (i32.const 16)) (i32.shr_u (local.get $size) (i32.const 16)))
          (i32.const 2))
        (memory.size)))
    (if (i32.gt_s (local.get $pages) (i32.const 0))
      (then
        (if (i32.lt_s (memory.grow (local.get $pages)) (i32.const 0)) (then (unreachable)))))
    (global.set $heap (i32.add (local.get $old) (local.get $size)))
    (local.get $old))
  ;; What a call writes: a key, which the spare page holds (at most 32 segments of 700 bytes), or an
  ;; error, whose name may be as long as the whole input.
  (func $begin (param $from i32) (param $count i32)
    (global.set $fields (local.get $from))
    (global.set $fields_end (i32.add (local.get $from) (i32.mul (local.get $count) (i32.const 24))))
    (global.set $at (call $allocate (i32.const 0) (i32.const 0) (i32.const 1) (global.get $heap))))
  (func $answer (param $payload i32) (result i32)          ;; ok, or the error in its place
    (i32.store8 (i32.const {{result}}) (i32.ne (global.get $error) (i32.const 0)))
    (if (global.get $error)
      (then
        (i32.store (local.get $payload) (global.get $error))
        (i32.store offset=4 (local.get $payload) (global.get $error_length))))
    (global.set $heap (i32.const {{heap}}))                ;; the host reads before it allocates again
    (global.set $error (i32.const 0))
    (i32.const {{result}}))

  ;; --- texts: "a text" in memory is its length (one byte), then its bytes -------------------
  (func $put (param $from i32) (param $length i32)
    (memory.copy (global.get $at) (local.get $from) (local.get $length))
    (global.set $at (i32.add (global.get $at) (local.get $length))))
  (func $say (param $text i32)
    (call $put (i32.add (local.get $text) (i32.const 1)) (i32.load8_u (local.get $text))))
  (func $fail (param $from i32) (param $length i32) (param $sentence i32) ;; the first error counts
    (if (global.get $error) (then (return)))
    (global.set $error (global.get $at))
    (call $put (local.get $from) (local.get $length))
    (call $say (local.get $sentence))
    (global.set $error_length (i32.sub (global.get $at) (global.get $error))))
