  (func $of_budget (param $name i32) (param $budget f64) (result f64) ;; 1 from the budget on
    (local $x f64)
    (local.set $x (call $metric (local.get $name)))
    (if (i32.eqz (f64.ge (local.get $x) (f64.convert_i32_s (i32.const 0))))
      (then (call $reject (local.get $name) (i32.const {{below_zero}}))))
    (f64.min (f64.div (local.get $x) (local.get $budget)) (f64.convert_i32_s (i32.const 1))))
