  ;; --- a flag: yes or no --------------------------------------------------------------------
  (func $flag (param $name i32)
    (local $field i32)
    (if (i32.eqz (local.tee $field (call $find (local.get $name) (i32.const 4) (i32.const {{not_flag}}))))
      (then (call $say (i32.const {{unknown}})) (return)))
    (call $say
      (select (i32.const {{yes}}) (i32.const {{no}}) (i32.load8_u offset=16 (local.get $field)))))
