  (func $share (param $name i32) (result f64)              ;; already 0 to 1
    (local $x f64)
    (local.set $x (call $metric (local.get $name)))
    (if (i32.eqz
        (i32.and
          (f64.ge (local.get $x) (f64.convert_i32_s (i32.const 0)))
          (f64.le (local.get $x) (f64.convert_i32_s (i32.const 1)))))
      (then (call $reject (local.get $name) (i32.const {{outside_share}}))))
    (local.get $x))
