  ;; --- a number as the shortest decimal that reads back as the same number ------------------
  ;; Free-format printing (Steele and White; Burger and Dybvig) on three whole numbers of 512
  ;; bits, R at 0, S at 64, M at 128: the number is R / S, and half the gaps to its neighbours
  ;; are M / S below and $above * M / S above it. T at 192 is for comparing.
  (func $combine (param $r i64) (param $s i64) (param $m i64) (param $carry i64) (param $to i32) (result i32)
    (local $i i32)                                         ;; to = rR + sS + mM + carry; is it at least 0?
    (loop $next
      (i64.store32 (i32.add (local.get $to) (local.get $i))
        (local.tee $carry
          (i64.add
            (i64.add
              (i64.add (local.get $carry)
                (i64.mul (local.get $r) (i64.load32_u (local.get $i))))
              (i64.mul (local.get $s) (i64.load32_u offset=64 (local.get $i))))
            (i64.mul (local.get $m) (i64.load32_u offset=128 (local.get $i))))))
      (local.set $carry (i64.shr_s (local.get $carry) (i64.const 32)))
      (br_if $next
        (i32.and (local.tee $i (i32.add (local.get $i) (i32.const 4))) (i32.const 63))))
    (i64.ge_s (local.get $carry) (i64.const 0)))
  (func $decimal (param $bits i64)
    (local $shift i32) (local $above i64) (local $odd i64)
    (local $place i32) (local $digit i32) (local $down i32)
    (if (i64.eqz (i64.shl (local.get $bits) (i64.const 1)))
      (then (call $byte (i32.const 48)) (return)))
    (if (i64.lt_s (local.get $bits) (i64.const 0))
      (then (call $byte (i32.const 45))))
    (local.set $shift                                      ;; 0 where the number is 2^-206
      (i32.sub
        (i32.and (i32.wrap_i64 (i64.shr_u (local.get $bits) (i64.const 52))) (i32.const 2047))
        (i32.const 817)))
    (if (i32.gt_u (local.get $shift) (i32.const 418))
      (then                                                ;; below 1e-62 or from 2^213 on: more than 64 bytes
        (global.set $at (i32.add (global.get $at) (i32.const 65)))
        (return)))
    (local.set $odd                                        ;; the ends of the gaps read back as an even number
      (i64.sub (i64.const 0) (i64.and (local.get $bits) (i64.const 1))))
    (local.set $bits (i64.shr_u (i64.shl (local.get $bits) (i64.const 12)) (i64.const 12)))
    (local.set $above                                      ;; from a power of two the gap below is half as wide
      (i64.add (i64.extend_i32_u (i64.eqz (local.get $bits))) (i64.const 1)))
    (memory.fill (i32.const 0) (i32.const 0) (i32.const 192))
    (i64.store offset=1 align=1                            ;; R = the mantissa, in units of 2^-266
      (i32.shr_u (local.get $shift) (i32.const 3))
      (i64.shl
        (i64.or (local.get $bits) (i64.shl (i64.const 1) (i64.const 52)))
        (i64.extend_i32_u (i32.and (local.get $shift) (i32.const 7)))))
    (local.set $shift (i32.sub (i32.add (local.get $shift) (i32.const 8)) (i32.wrap_i64 (local.get $above))))
    (i32.store8 offset=128
      (i32.shr_u (local.get $shift) (i32.const 3))
      (i32.shl (i32.const 1) (i32.and (local.get $shift) (i32.const 7))))
    (i32.store8 offset=97 (i32.const 0) (i32.const 4))     ;; S = 1
    (loop $scale                                           ;; until below 1: $place digits before the point
      (if (call $combine (i64.const 1) (i64.const -1) (local.get $above) (local.get $odd) (i32.const 192))
        (then
          (drop (call $combine (i64.const 0) (i64.const 10) (i64.const 0) (i64.const 0) (i32.const 64)))
          (local.set $place (i32.add (local.get $place) (i32.const 1)))
          (br $scale))))
    (if (i32.eqz (local.get $place)) (then (call $byte (i32.const 48))))
    (loop $next
      (if (i32.eqz (local.get $place)) (then (call $byte (i32.const 46))))
      (local.set $place (i32.sub (local.get $place) (i32.const 1)))
      (drop (call $combine (i64.const 10) (i64.const 0) (i64.const 0) (i64.const 0) (i32.const 0)))
      (drop (call $combine (i64.const 0) (i64.const 0) (i64.const 10) (i64.const 0) (i32.const 128)))
      (local.set $digit (i32.const 47))
      (loop $count
        (local.set $digit (i32.add (local.get $digit) (i32.const 1)))
        (br_if $count (call $combine (i64.const 1) (i64.const -1) (i64.const 0) (i64.const 0) (i32.const 0))))
      (drop (call $combine (i64.const 1) (i64.const 1) (i64.const 0) (i64.const 0) (i32.const 0)))
      (local.set $down                                     ;; does it read back without the rest?
        (call $combine (i64.const -1) (i64.const 0) (i64.const 1) (local.get $odd) (i32.const 192)))
      (if (i32.eqz
          (i32.or (local.get $down)                        ;; or with the digit one more?
            (call $combine (i64.const 1) (i64.const -1) (local.get $above) (local.get $odd) (i32.const 192))))
        (then (call $byte (local.get $digit)) (br $next))))
    (call $byte                                            ;; the nearer of the two that do; a tie goes up
      (i32.add (local.get $digit)
        (i32.or (i32.eqz (local.get $down))
          (call $combine (i64.const 2) (i64.const -1) (i64.const 0) (i64.const 0) (i32.const 192)))))
    (loop $fill
      (if (i32.gt_s (local.get $place) (i32.const 0))
        (then
          (call $byte (i32.const 48))
          (local.set $place (i32.sub (local.get $place) (i32.const 1)))
          (br $fill)))))
