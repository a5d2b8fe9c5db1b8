"""What the simulated users ask about, and what the report asks about. No subject is in both.

A line is a subject and words by which a reply shows that it is about it, besides the subject's own.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subject:
    """Something that anybody can say a sentence about."""

    name: str
    words: tuple[str, ...]
    """Lower case. A reply with one of them, or with a form of one, is about the subject."""


def _table(text: str) -> tuple[Subject, ...]:
    rows = (line.split(":") for line in text.strip().splitlines())
    return tuple(Subject(name, (*name.removeprefix("the ").split(), *words.split())) for name, words in rows)


TRAFFIC = _table("""
rivers: water stream flow sea boat
bread: flour dough bake loaf yeast
bicycles: bike wheel ride pedal cycling
rain: water cloud drop weather wet
the moon: earth orbit night lunar sky
libraries: book read borrow librarian
honey: bee sweet nectar hive
volcanoes: lava erupt magma mountain ash
snow: ice cold winter flake freeze
coffee: bean drink caffeine brew cup
bridges: cross span river road structure
pianos: key music instrument play string
forests: tree wood animal plant
salt: sodium taste mineral food sea season
trains: rail track passenger travel station
glass: sand transparent window clear fragile
gardens: plant flower grow vegetable soil
cheese: milk dairy curd cow
deserts: sand dry hot water cactus
islands: land water sea ocean surrounded
paper: wood write tree sheet pulp
the sun: star light heat energy earth solar
clocks: time hour watch minute
chess: board game piece king player
kitchens: cook food room meal stove
wool: sheep warm fibre fiber yarn fabric
lighthouses: ship light coast tower sea
apples: fruit tree sweet eat
sleep: rest body night dream brain
schools: learn student teacher education child
maps: place location geography land road
soap: clean wash water dirt hand
whales: ocean mammal sea large
the wind: air blow weather move
cameras: photo picture image lens light
rice: grain food eat cook crop
castles: king stone medieval wall fortress
spiders: web leg insect arachnid eight
football: ball team player game goal sport
tea: drink leaf cup water hot
elephants: trunk animal large mammal tusk
hospitals: doctor patient sick medical health
gold: metal precious jewelry yellow money
violins: music string instrument bow play
markets: buy sell goods food shop trade
the ocean: water sea fish salt wave
butterflies: wing insect caterpillar fly color
mountains: high rock peak climb land
chocolate: cocoa sweet bean candy sugar
candles: wax light wick burn flame
penguins: bird swim ice cold antarctic
mirrors: reflect glass image see
tractors: farm field machine plow pull
museums: art history exhibit object collection
sugar: sweet food cane taste energy
umbrellas: rain dry sun protect wet
trees: leaf wood trunk plant branch oxygen
batteries: energy power electric charge store
farms: crop animal food farmer land
novels: book story character fiction read write
telescopes: star see lens distant space sky
bakeries: bread cake bake pastry
dolphins: ocean sea mammal swim intelligent
balloons: air float inflate helium rubber
rainbows: color light rain sky sun
cotton: plant fabric cloth fiber soft
submarines: underwater water ship sea dive
compasses: north direction magnet needle navigate
dictionaries: word meaning definition language
engines: machine fuel power car energy
potatoes: vegetable root food cook plant
robots: machine task human program
tigers: cat stripe animal predator wild
weddings: marry marriage couple love ceremony
waterfalls: water river fall cliff flow
pencils: write draw lead graphite wood
the brain: think body mind neuron organ memory
orchestras: music instrument play conductor musician
passports: travel country document identity
horses: animal ride run mammal
thunderstorms: lightning thunder rain weather storm
carpets: floor rug soft fabric cover
beaches: sand sea water ocean wave
bees: honey flower pollen insect hive
lakes: water fish fresh body land
ships: sea water boat sail ocean
factories: make product machine worker goods
winter: cold snow season ice
shadows: light dark object sun shape
doctors: patient sick medicine health help
music: sound song rhythm instrument listen
caves: rock underground dark hole
magnets: metal iron attract pole field
airports: plane flight travel passenger
roses: flower red plant love garden thorn
milk: cow drink dairy calcium
windows: glass light house see air
owls: bird night eye hunt
tables: furniture eat leg surface wood
rockets: space fuel launch fly
spoons: eat food utensil soup
elections: vote people government choose leader
tents: camp sleep outdoor shelter
pyramids: egypt tomb stone ancient build
bananas: fruit yellow eat potassium
keys: lock door open
ladders: climb step reach high
oil: fuel energy cook fat petroleum
shoes: foot feet walk wear
blankets: warm bed cover sleep
sheep: wool animal farm flock
stairs: step climb floor building
photographs: picture image camera memory
lemons: sour fruit yellow citrus
clouds: sky water rain weather
pockets: clothes carry hold small
rabbits: animal ear hop fur
theatres: play stage actor perform audience theater
wheat: grain flour bread crop
bones: body skeleton calcium support
fences: garden wood keep wall boundary
fog: cloud water see air weather
nurses: patient hospital care health sick
perfume: smell scent fragrance
squirrels: nut tree animal tail
towels: dry water bath cloth wet
vegetables: eat food plant healthy carrot
zoos: animal see cage wild
bricks: build clay house wall
calendars: date day month year time
deer: animal forest antler
eggs: chicken bird food protein hen
feathers: bird fly wing light
grapes: fruit wine vine
hats: head wear sun
juice: fruit drink orange
kites: fly wind sky string
lamps: light bulb room
medals: award win gold honor
needles: sew thread sharp
onions: vegetable cook layer cry
parrots: bird talk color feather
quilts: blanket fabric sew warm
radios: sound listen music broadcast signal
scissors: cut blade paper
tunnels: underground road pass train
uniforms: wear clothes school same
vinegar: acid sour food
wagons: wheel pull carry
yoghurt: milk food bacteria dairy yogurt
acorns: oak tree nut seed
baskets: carry weave hold
camels: desert hump animal water
drums: music beat instrument play rhythm
earthquakes: earth ground shake plate
flutes: music instrument play wind
geese: goose bird fly water
hotels: stay room travel guest
ink: write pen print color
jewels: precious stone gem
lizards: reptile animal tail
moss: plant green grow moist
nests: bird egg home
orchards: fruit tree apple
pillows: head sleep bed soft
quarries: stone rock mine
ropes: tie pull strong
sandwiches: bread eat food lunch
taxis: car drive passenger city ride
valleys: mountain land river low
walnuts: nut tree food eat
ants: insect colony small work
barns: farm animal hay store
cranes: lift heavy build bird
dust: small particle air dirt
fountains: water garden drink
gloves: hand warm wear
harbours: ship boat sea port harbor
icebergs: ice water float sea
jam: fruit sugar bread sweet
kangaroos: australia jump pouch animal
lawns: grass green garden mow
mushrooms: fungi fungus food eat grow
noodles: food eat pasta dish
olives: oil tree fruit
peppers: spicy vegetable hot food
ruins: old ancient building
sails: boat wind ship
teeth: tooth mouth chew eat
watches: time wrist wear
yaks: animal hair mountain
bells: ring sound metal
coins: money metal currency
dice: game roll number
eagles: bird fly prey wing
flags: country nation symbol
goats: animal milk farm
hills: land high slope
ice: water cold frozen freeze
""")

REPORT = _table("""
dogs: animal pet loyal friend
fire: heat burn flame hot
rubber: tree elastic material tire
tomatoes: fruit vegetable red plant
guitars: music string instrument play
banks: money save account loan
wolves: wolf animal pack wild hunt
cities: city people building live urban
autumn: leaf leaves season fall
frogs: animal water jump amphibian
steel: metal iron strong
paintings: art color paint artist
cats: animal pet fur
telephones: phone call talk communicate
electricity: power energy current electric
lions: animal cat pride king
soup: food broth hot eat
turtles: shell animal water reptile
newspapers: news read story information
hammers: tool nail hit
stars: sky light night sun
swimming: water pool swim exercise
carrots: vegetable orange root
aeroplanes: plane fly air wing airplane
dentists: tooth teeth mouth
diamonds: stone gem hard precious carbon
poems: word poetry write rhyme
parks: tree play green nature
sharks: fish sea ocean teeth
strawberries: fruit red sweet
trumpets: music instrument brass play
summer: hot sun season warm
silk: fabric cloth worm soft
skis: snow slide winter
lightning: electric storm thunder sky
monkeys: animal tree primate
ovens: cook heat bake food
pears: fruit tree sweet
police: crime law safe protect
glaciers: ice snow water slow
snakes: reptile animal venom
sunflowers: yellow flower plant seed
dreams: sleep mind night brain
teachers: student school learn teach
television: watch show screen program
trucks: carry road goods vehicle
wine: grape drink alcohol
zebras: stripe animal africa
the heart: blood body pump
the internet: computer information network online
letters: write mail alphabet word
ducks: bird water swim
garlic: food cook flavor clove
helicopters: fly air rotor blade
laughter: laugh happy joy funny
mice: animal small rodent mouse
oranges: fruit juice citrus
pottery: clay pot make ceramic
sand: beach rock grain small
shirts: wear clothes sleeve
skyscrapers: building tall high city
spring: flower season warm
tennis: ball racket game player
the eyes: see eye light vision
""")
