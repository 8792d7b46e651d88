  (func $reject (param $name i32) (param $sentence i32)
    (call $fail (i32.add (local.get $name) (i32.const 1)) (i32.load8_u (local.get $name)) (local.get $sentence)))
  (func $same (param $text i32) (param $from i32) (param $length i32) (result i32)
    (if (i32.ne (i32.load8_u (local.get $text)) (local.get $length)) (then (return (i32.const 0))))
    (loop $next
      (if (i32.eqz (local.get $length)) (then (return (i32.const 1))))
      (local.set $length (i32.sub (local.get $length) (i32.const 1)))
      (br_if $next
        (i32.eq
          (i32.load8_u offset=1 (i32.add (local.get $text) (local.get $length)))
          (i32.load8_u (i32.add (local.get $from) (local.get $length))))))
    (i32.const 0))

  ;; --- fields: 24 bytes each; name at 0, its length at 4, kind at 8, value at 16 ------------
  ;; The first field of a name, if its kind is one of the bits of $kinds; else 0.
  ;; Kinds: 0 text, 1 number, 2 flag, 3 and 4 lists.
  (func $find (param $name i32) (param $kinds i32) (param $otherwise i32) (result i32)
    (local $field i32)
    (local.set $field (global.get $fields))
    (loop $next
      (if (i32.eq (local.get $field) (global.get $fields_end)) (then (return (i32.const 0))))
      (if (i32.eqz (call $same (local.get $name)
          (i32.load (local.get $field)) (i32.load offset=4 (local.get $field))))
        (then
          (local.set $field (i32.add (local.get $field) (i32.const 24)))
          (br $next))))
    (if (i32.and (i32.const 1)
        (i32.shr_u (local.get $kinds) (i32.load8_u offset=8 (local.get $field))))
      (then (return (local.get $field))))
    (call $reject (local.get $name) (local.get $otherwise))
    (i32.const 0))
