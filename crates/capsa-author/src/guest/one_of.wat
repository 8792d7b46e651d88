  (func $one_of (param $list i32) (param $from i32) (param $length i32) (result i32)
    (loop $next                                            ;; a list of texts ends with an empty one
      (if (i32.eqz (i32.load8_u (local.get $list))) (then (return (i32.const 0))))
      (if (i32.eqz (call $same (local.get $list) (local.get $from) (local.get $length)))
        (then
          (local.set $list
            (i32.add (i32.add (local.get $list) (i32.const 1)) (i32.load8_u (local.get $list))))
          (br $next))))
    (i32.const 1))
