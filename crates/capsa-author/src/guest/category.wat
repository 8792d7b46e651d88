  ;; --- a category: the text itself, with %, | and a literal unknown or other escaped --------
  (func $category (param $name i32){{values_param}}
    (local $field i32) (local $from i32) (local $length i32) (local $byte i32) (local $escape i32)
    (if (i32.eqz (local.tee $field (call $find (local.get $name) (i32.const 3) (i32.const {{not_category}}))))
      (then (call $say (i32.const {{unknown}})) (return)))
    (local.set $from (i32.load offset=16 (local.get $field)))
    (local.set $length (i32.load offset=20 (local.get $field)))
    (if (i32.load8_u offset=8 (local.get $field))          ;; a number: written here, then read as text
      (then
        (local.set $from (global.get $at))
        (call $decimal (i64.load offset=16 (local.get $field)))
        (local.set $length (i32.sub (global.get $at) (local.get $from)))
        (global.set $at (local.get $from))))
    (if (i32.gt_u (local.get $length) (i32.const 64))
      (then (call $reject (local.get $name) (i32.const {{too_long}})) (return))){{values_check}}
    (local.set $escape (call $one_of (i32.const {{reserved}}) (local.get $from) (local.get $length)))
    (loop $next
      (if (local.get $length)
        (then
          (local.set $byte (i32.load8_u (local.get $from)))
          (if (i32.or (local.get $escape)
              (i32.or (i32.eq (local.get $byte) (i32.const 37)) (i32.eq (local.get $byte) (i32.const 124))))
            (then                                          ;; bits 3 and 4 tell %, o, u and | apart
              (call $say
                (i32.add (i32.and (i32.shr_u (local.get $byte) (i32.const 1)) (i32.const 12))
                  (i32.const {{escapes}})))
              (local.set $escape (i32.const 0)))
            (else (call $byte (local.get $byte))))
          (local.set $from (i32.add (local.get $from) (i32.const 1)))
          (local.set $length (i32.sub (local.get $length) (i32.const 1)))
          (br $next)))))
