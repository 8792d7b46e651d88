  ;; --- a number: the label of its bucket. At $edges: $count edges (f64), then a label more,
  ;; each as its length (two bytes) and its bytes ---------------------------------------------
  (func $number (param $name i32) (param $edges i32) (param $count i32)
    (local $field i32) (local $label i32)
    (if (i32.eqz (local.tee $field (call $find (local.get $name) (i32.const 2) (i32.const {{not_number}}))))
      (then (call $say (i32.const {{unknown}})) (return)))
    (local.set $label (i32.add (local.get $edges) (i32.mul (local.get $count) (i32.const 8))))
    (loop $next
      (if (local.get $count)
        (then
          (if (f64.ge (f64.load offset=16 (local.get $field)) (f64.load align=1 (local.get $edges)))
            (then
              (local.set $label
                (i32.add (i32.add (local.get $label) (i32.const 2)) (i32.load16_u align=1 (local.get $label))))
              (local.set $edges (i32.add (local.get $edges) (i32.const 8)))
              (local.set $count (i32.sub (local.get $count) (i32.const 1)))
              (br $next))))))
    (call $put (i32.add (local.get $label) (i32.const 2)) (i32.load16_u align=1 (local.get $label))))
