-- Drops all deliveries of a channel that is gone. Its numbers and marks stay: should it come back, they go on.
call('DEL', deliveries, order)
return {'ok'}
