
    (if (local.get $values)                                ;; 0: any text is a value
      (then
        (if (i32.eqz (call $one_of (local.get $values) (local.get $from) (local.get $length)))
          (then (call $say (i32.const {{other}})) (return)))))
