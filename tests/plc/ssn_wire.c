// SPDX-License-Identifier: MIT OR GPL-2.0
/* A GPIO chip of one wire without hardware, to be looked at from outside: what drives it, and what the resistor does.
 *
 * As many real chips do, it keeps direction and level of a line that nobody has any more. */
#include <linux/gpio/driver.h>
#include <linux/module.h>

static int is_output, driven, pull;
module_param(is_output, int, 0444);
module_param(driven, int, 0444);
module_param(pull, int, 0644);

static int wire_direction(struct gpio_chip *chip, unsigned int line)
{
	return is_output ? GPIO_LINE_DIRECTION_OUT : GPIO_LINE_DIRECTION_IN;
}

static int wire_input(struct gpio_chip *chip, unsigned int line)
{
	is_output = 0;
	return 0;
}

static int wire_output(struct gpio_chip *chip, unsigned int line, int value)
{
	driven = value;
	is_output = 1;
	return 0;
}

static int wire_get(struct gpio_chip *chip, unsigned int line)
{
	return is_output ? driven : pull;
}

static void wire_set(struct gpio_chip *chip, unsigned int line, int value)
{
	driven = value;
}

static const char *const names[] = { "ACCEPT" };

static struct gpio_chip wire = {
	.label = "ssn-wire",
	.owner = THIS_MODULE,
	.base = -1,
	.ngpio = 1,
	.names = names,
	.get_direction = wire_direction,
	.direction_input = wire_input,
	.direction_output = wire_output,
	.get = wire_get,
	.set = wire_set,
};

static int __init wire_begin(void)
{
	return gpiochip_add_data(&wire, NULL);
}

static void __exit wire_end(void)
{
	gpiochip_remove(&wire);
}

module_init(wire_begin);
module_exit(wire_end);
MODULE_DESCRIPTION("A GPIO chip of one wire without hardware");
MODULE_LICENSE("Dual MIT/GPL");
