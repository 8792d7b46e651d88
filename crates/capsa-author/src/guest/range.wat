  (func $in_range (param $name i32) (param $low f64) (param $high f64) (param $outside i32) (result f64)
    (local $x f64)                                         ;; low is 0, high is 1
    (local.set $x (call $metric (local.get $name)))
    (if (i32.eqz
        (i32.and
          (f64.ge (local.get $x) (local.get $low))
          (f64.le (local.get $x) (local.get $high))))
      (then (call $reject (local.get $name) (local.get $outside))))
    (f64.div
      (f64.sub (local.get $x) (local.get $low))
      (f64.sub (local.get $high) (local.get $low))))
