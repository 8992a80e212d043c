-- A replica says goodbye.
-- ARGV: pair, replica.
call('SREM', base .. 'z', ARGV[2])
call('DEL', base .. 'b:' .. ARGV[2], base .. 'w:' .. ARGV[2])
return {'ok'}
