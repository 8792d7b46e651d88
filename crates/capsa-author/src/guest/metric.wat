  ;; --- metrics: a number, or a flag as 1 or 0 -----------------------------------------------
  (func $metric (param $name i32) (result f64)
    (local $field i32)
    (if (i32.eqz (local.tee $field (call $find (local.get $name) (i32.const 6) (i32.const {{not_number}}))))
      (then (call $reject (local.get $name) (i32.const {{missing}}))))
    (if (result f64) (i32.eq (i32.load8_u offset=8 (local.get $field)) (i32.const 2))
      (then (f64.convert_i32_u (i32.load8_u offset=16 (local.get $field))))
      (else (f64.load offset=16 (local.get $field)))))
  (func $check_names                                       ;; every field has to be a declared metric
    (local $field i32)
    (local.set $field (global.get $fields))
    (loop $next
      (if (i32.ne (local.get $field) (global.get $fields_end))
        (then
          (if (i32.eqz (call $one_of (i32.const {{metrics}})
              (i32.load (local.get $field)) (i32.load offset=4 (local.get $field))))
            (then
              (call $fail (i32.load (local.get $field)) (i32.load offset=4 (local.get $field))
                (i32.const {{unknown_metric}}))))
          (local.set $field (i32.add (local.get $field) (i32.const 24)))
          (br $next)))))
